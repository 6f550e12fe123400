"""`spec.affinity`, as in a pod (core/v1 Affinity), written out: what is nested without an end, or
misspelt, is refused when it is applied, and no reader has to expect it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kubeseg_types.base import Contract

_Key = Annotated[str, Field(min_length=1, max_length=317)]
_Value = Annotated[str, Field(max_length=253)]
_Values = Annotated[list[_Value], Field(max_length=100)]
_Weight = Annotated[int, Field(ge=1, le=100)]
#: Of everything that is listed here.
_MOST = 16


class NodeRequirement(Contract):
    """A condition on a label, or a field, of a node."""

    key: _Key
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: _Values | None = None


class NodeTerm(Contract):
    """Conditions that all hold."""

    match_expressions: list[NodeRequirement] | None = Field(default=None, max_length=_MOST)
    match_fields: list[NodeRequirement] | None = Field(default=None, max_length=_MOST)


class NodeSelector(Contract):
    """One of the terms holds."""

    node_selector_terms: list[NodeTerm] = Field(min_length=1, max_length=_MOST)


class PreferredNodes(Contract):
    """Nodes that are better by so much."""

    weight: _Weight
    preference: NodeTerm


class NodeAffinity(Contract):
    """Which nodes."""

    required_during_scheduling_ignored_during_execution: NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: list[PreferredNodes] | None = Field(
        default=None, max_length=_MOST
    )


class LabelRequirement(Contract):
    """A condition on a label."""

    key: _Key
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: _Values | None = None


class LabelSelector(Contract):
    """Objects by their labels; an empty one matches all."""

    match_labels: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(
        default=None, max_length=_MOST
    )
    match_expressions: list[LabelRequirement] | None = Field(default=None, max_length=_MOST)


class PodTerm(Contract):
    """Near, or far from, which pods, and what near means."""

    topology_key: _Key
    label_selector: LabelSelector | None = None
    namespaces: list[Annotated[str, Field(max_length=63)]] | None = Field(
        default=None, max_length=_MOST
    )
    namespace_selector: LabelSelector | None = None
    match_label_keys: list[_Key] | None = Field(default=None, max_length=_MOST)
    mismatch_label_keys: list[_Key] | None = Field(default=None, max_length=_MOST)


class PreferredPods(Contract):
    """Pods whose nearness, or distance, is better by so much."""

    weight: _Weight
    pod_affinity_term: PodTerm


class PodAffinity(Contract):
    """Which pods."""

    required_during_scheduling_ignored_during_execution: list[PodTerm] | None = Field(
        default=None, max_length=_MOST
    )
    preferred_during_scheduling_ignored_during_execution: list[PreferredPods] | None = Field(
        default=None, max_length=_MOST
    )


class Affinity(Contract):
    """Which nodes a worker's pod may be on, or should."""

    node_affinity: NodeAffinity | None = None
    pod_affinity: PodAffinity | None = None
    pod_anti_affinity: PodAffinity | None = None
