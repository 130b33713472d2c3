"""All requirements by name, from the tables of the subjects."""

from __future__ import annotations

from kvmprobe.judge.requirements.feature_requirements import FEATURE_REQUIREMENTS
from kvmprobe.judge.requirements.host_quantities import HOST_QUANTITIES
from kvmprobe.judge.requirements.host_requirements import HOST_REQUIREMENTS
from kvmprobe.judge.requirements.memory_quantities import MEMORY_QUANTITIES
from kvmprobe.judge.requirements.sev_requirements import SEV_REQUIREMENTS
from kvmprobe.judge.requirements.svm_requirements import SVM_REQUIREMENTS

REQUIREMENTS = {
    requirement.name: requirement
    for requirement in (*SVM_REQUIREMENTS, *FEATURE_REQUIREMENTS, *SEV_REQUIREMENTS, *HOST_REQUIREMENTS)
}
QUANTITIES = {quantity.name: quantity for quantity in (*HOST_QUANTITIES, *MEMORY_QUANTITIES)}
