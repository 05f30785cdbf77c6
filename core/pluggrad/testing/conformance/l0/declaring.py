"""What a device declares is what it has; what it does not declare is refused."""
from __future__ import annotations

import numpy as np

from pluggrad import dtypes
from pluggrad.device.contract import FEATURES, implemented
from pluggrad.errors import UnsupportedDType
from pluggrad.tensor import Tensor
from pluggrad.testing.conformance.mismatch import Mismatch, expect
from pluggrad.testing.conformance.registry import conformance, product
from pluggrad.testing.conformance.requirement import Requirement, requires
from pluggrad.testing.conformance.subject import Subject


@conformance("L0", "features", cases=product(feature=FEATURES),
             suggests="the device's features and its methods disagree")
def features(subject: Subject, feature: str) -> None:
    declared, has = feature in subject.capabilities.features, feature in implemented(subject.device)
    protocol = FEATURES[feature].__name__
    expect(has or not declared, f"feature {feature} is declared and not implemented",
           expected=f"the methods of {protocol}", got="none",
           suggests=f"take {feature!r} out of capabilities.features, or implement {protocol}")
    expect(declared or not has, f"feature {feature} is implemented and not declared",
           expected=f"{feature!r} in capabilities.features",
           got=", ".join(sorted(subject.capabilities.features)) or "none",
           suggests=f"add {feature!r} to capabilities.features: the core never calls what is not declared")


def _undeclared(dtype: str) -> Requirement:
    return requires(without_dtype=dtype)


@conformance("L0", "refuses", cases=product(dtype=[d.name for d in dtypes.ALL]), requires=_undeclared,
             suggests="a dtype that the device does not declare is taken")
def refuses(subject: Subject, dtype: str) -> None:
    wanted = dtypes.by_name(dtype)
    other = min(subject.capabilities.dtypes)

    def converted() -> object:
        return Tensor(np.zeros(3), dtype=other, device=subject.name).cast(wanted).numpy()

    for what, attempt in (("a tensor of it", lambda: Tensor(np.zeros(3), dtype=wanted, device=subject.name)),
                          ("a conversion to it", converted)):
        try:
            attempt()
        except UnsupportedDType as error:
            expect(dtype in str(error), "the error names the dtype", expected=dtype, got=str(error))
            continue
        raise Mismatch(what, dtype=dtype, expected="UnsupportedDType", got="no error")
