"""Priors of codes beyond densities in closed form: mixed from the encoder, resampled, by a ratio, pushed, of sticks."""

from geoflow.autoencoders.priors.push_forward import PushForward
from geoflow.autoencoders.priors.ratio import RatioPrior
from geoflow.autoencoders.priors.resampled import ResampledPrior
from geoflow.autoencoders.priors.sticks import StickBreaking
from geoflow.autoencoders.priors.vamp import VampPrior

__all__ = ["PushForward", "RatioPrior", "ResampledPrior", "StickBreaking", "VampPrior"]
