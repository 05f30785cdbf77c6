"""What ships for tests of programs and devices: gradcheck, conformance, the rows of the benchmark."""
