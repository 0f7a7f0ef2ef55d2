"""Devices of a till. Transports move bytes, encoders and decoders say what the bytes mean; neither knows the other."""
