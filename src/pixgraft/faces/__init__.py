"""Faces: detected, cut out upright, and pasted back."""

from pixgraft.faces.alignment import Aligned, AlignedFiles, align, align_all, align_files
from pixgraft.faces.detection import Face, detect
from pixgraft.faces.pasting import Patch, paste

__all__ = ["Aligned", "AlignedFiles", "Face", "Patch", "align", "align_all", "align_files", "detect", "paste"]
