"""PWS-Seg data engine: a few annotated CT scans and many others in, ever better label layers out."""

__version__ = "0.1.0"
