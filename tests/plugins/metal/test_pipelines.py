"""Pipelines on disk: written once, found by the next device, and never in the way."""

from __future__ import annotations

import pytest

from pluggrad import config


def archives(folder):
    return list(folder.glob("blob-metal-*"))


@pytest.fixture
def cache(fresh_cache):
    config.CACHE_DIR.forget()
    yield fresh_cache
    config.CACHE_DIR.forget()


def compiled(backend, make_kernel):
    """Whether a device had to compile its kernel."""
    device = backend.open(0, "")
    kernel = make_kernel(device, 70)
    device.close()
    return kernel.executable.pipeline.compiled


def test_a_pipeline_is_compiled_once(cache, backend, make_kernel):
    assert compiled(backend, make_kernel)
    assert len(archives(cache)) == 1
    assert not compiled(backend, make_kernel)
    assert [path.name for path in cache.iterdir()] == [archives(cache)[0].name]


def test_another_build_of_the_system_has_its_own(machine, cache, backend, make_kernel):
    assert compiled(backend, make_kernel)
    machine.system = "Version 15.2"
    assert compiled(backend, make_kernel)
    assert len(archives(cache)) == 2


def test_a_damaged_archive_is_made_anew(cache, backend, make_kernel):
    assert compiled(backend, make_kernel)
    archives(cache)[0].write_bytes(b"something else")
    assert compiled(backend, make_kernel)
    assert not compiled(backend, make_kernel)


def test_a_device_without_archives_works(machine, cache, backend, make_kernel):
    machine.refuses_archives = True
    assert compiled(backend, make_kernel)
    assert archives(cache) == []


def test_nothing_is_kept_where_caching_is_off_or_others_can_write(cache, backend, make_kernel):
    cache.chmod(0o777)
    assert compiled(backend, make_kernel)
    assert archives(cache) == []


def test_kernels_of_one_binary_share_a_library(machine, backend, make_kernel):
    device = backend.open(0, "")
    kernel = make_kernel(device, 70)
    machine.calls.clear()
    device.load(kernel.binary, kernel.signature)
    assert "newLibraryWithSource_options_error_" not in machine.names()
