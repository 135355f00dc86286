"""Files of others: NIfTI, DICOM, FLARE folders. The only room that knows ITK and its order of axes."""
