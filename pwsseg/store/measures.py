"""Names of what a case's record measures, beside the seconds (`zarr_schema/README.md`, Cases)."""

CHANGED, CHANGED_ORGANS = "changed_", "changed_organs"
"""Voxels that differ from the layer compared: of a class, whose id follows, and of all organs. A manifest has
them, too."""

GPU_PEAK_MB, GPU_AREA_MB_S = "gpu_peak_mb", "gpu_area_mb_s"
"""What FLARE measures: the most memory in use on the GPU, and the area under its curve over time."""

PROCESS_PEAK_MB, PROCESS_AREA_MB_S = "process_peak_mb", "process_area_mb_s"
"""The same of the resident memory of the process that predicts, on a machine without a GPU."""
