"""Whether an inference can be trusted: reports that read posteriors, at the end of the data's way."""

from ppl_jax.diagnostics.calibration import Calibration, calibration

__all__ = ["Calibration", "calibration"]
