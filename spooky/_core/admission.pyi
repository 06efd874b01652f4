"""Letting an exchange in; the twin is the source, and says the rest."""

from spooky._core.pure.admission import Admission, AdmissionStage, Refusal, admit, admitted_by

__all__ = ["Admission", "AdmissionStage", "Refusal", "admit", "admitted_by"]
