"""The base of every model of the contract: camelCase outside, snake_case inside, nothing extra."""

from __future__ import annotations

import functools
import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

#: Where a structural schema has its CEL rules.
RULES = "x-kubernetes-validations"


class Contract(BaseModel):
    """A part of the contract: unknown fields and non-finite numbers are errors."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
    )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, camelCase, without the fields that are not set (None)."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Lenient(Contract):
    """A part that is read back from elsewhere, perhaps from a newer version: extras are ignored."""

    model_config = ConfigDict(extra="ignore")


_QUANTITY = r"^[0-9]+([.][0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_QUANTITY_WORDS = "must be a quantity such as 500m, 2 or 16Gi"


def _quantity(text: str) -> str:
    if re.fullmatch(_QUANTITY[1:-1], text) is None:
        raise PydanticCustomError("quantity", _QUANTITY_WORDS)
    return text


#: A Kubernetes quantity such as 500m, 2, 16Gi (decimal exponents, which nobody writes, left out).
#: A rule with a sentence, since a pattern would be all that the API server says.
Quantity = Annotated[
    str,
    Field(
        max_length=24,
        json_schema_extra={
            RULES: [{"rule": f"self.matches('{_QUANTITY}')", "message": _QUANTITY_WORDS}]
        },
    ),
    AfterValidator(_quantity),
]
#: A duration as Go writes it, in hours, minutes and seconds: 90s, 30m, 1h30m.
Duration = Annotated[
    str, Field(pattern=r"^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$", min_length=2, max_length=20)
]
#: RFC 3339, UTC, as the API server writes times.
Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"}, max_length=40)]

_UNITS: dict[str, Fraction | int] = {
    "": 1, "m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


@functools.lru_cache(maxsize=256)
def quantity_value(text: str) -> Fraction:
    """The number that a `Quantity` such as 1.5Gi stands for."""
    number = text.rstrip("kmKMGTi")
    return Fraction(number) * _UNITS[text[len(number) :]]


def duration_seconds(text: str) -> int:
    """The seconds of a `Duration` such as 1h30m."""
    seconds, number = 0, ""
    for character in text:
        if character.isdigit():
            number += character
        else:
            seconds += int(number) * {"h": 3600, "m": 60, "s": 1}[character]
            number = ""
    return seconds
