"""The option files of `qc train`, shipped inside the package as ``qc_experiments.conf``."""
