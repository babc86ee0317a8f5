"""Faces: detected, and cut out upright."""

from pixgraft.faces.alignment import Aligned, AlignedFiles, align, align_files
from pixgraft.faces.detection import Face, detect

__all__ = ["Aligned", "AlignedFiles", "Face", "align", "align_files", "detect"]
