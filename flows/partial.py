"""A section of params.yaml as a form: the same fields, bounds and choices, and each may be empty.

A value is held to its type and its bounds, and kept as it was written. What binds several fields
together is not asked here: most of them are empty, and only the whole file can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
    model_serializer,
    model_validator,
)

from flows import layout
from tasks.params import Section


class Form(BaseModel):
    """A section, any key of which may be left out.

    nullable  keys that null is a value of
    tag       the key that says which of the `variants` a section is, of those that it may be
    words     what it says for this one
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        json_schema_extra=layout.arrange,
        serialize_by_alias=True,
    )

    nullable: ClassVar[frozenset[str]] = frozenset()
    tag: ClassVar[str] = ""
    words: ClassVar[tuple[Any, ...]] = ()
    variants: ClassVar[tuple[type[Form], ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        """Take null for nothing, where params.yaml takes no null."""
        if not isinstance(given, dict):
            return given
        return {k: value for k, value in given.items() if value is not None or k in cls.nullable}

    @model_serializer(mode="plain")
    def _without_the_empty(self) -> dict[str, Any]:
        return {k: value.model_dump() if isinstance(value, Form) else value for k, value in self}

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """Go through what was set: the keys of params.yaml, and their values."""
        for name, field in type(self).model_fields.items():
            if name in self.model_fields_set:
                yield str(field.alias), getattr(self, name)

    @classmethod
    def changes(cls, written: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
        """Tell whether what was given changes a section as it is written, or is another variant."""
        if not cls.variants:
            return True
        said = written.get(cls.tag)
        return any(
            {said, given.get(cls.tag, said)} <= {*each.words} and given.keys() <= each.known()
            for each in cls.variants
        )

    @classmethod
    def known(cls) -> set[str]:
        """Give the keys of params.yaml that the section has."""
        return {str(field.alias) for field in cls.model_fields.values()}


def _held(value: Any, hold: ValidatorFunctionWrapHandler) -> Any:
    hold(value)
    return value


AS_WRITTEN = (WrapValidator(_held), PlainSerializer(lambda value: value, return_type=Any))
"""A value is held to its type, not turned into it: what was typed will stand in params.yaml."""


def form(
    name: str, about: str | None, fields: Mapping[str, tuple[Any, str | None]], path: str = ""
) -> type[Form]:
    """Make a form of keys, each with its type and what it is about.

    path  the key of the section, by which its fields are called; "" for the whole file
    """
    made: dict[str, Any] = {
        key if _is_free(key) else f"key_{place}": (
            _optional(kind, called := f"{path}.{key}".lstrip(".")),
            Field(default=None, alias=key, title=called, description=told),
        )
        for place, (key, (kind, told)) in enumerate(fields.items())
    }
    model: type[Form] = create_model(name, __base__=Form, __doc__=about, **made)
    model.nullable = frozenset(key for key, (kind, _) in fields.items() if _takes_null(kind))
    return model


def _is_free(key: str) -> bool:
    """Tell whether a field may bear the name: `validate` is a method of every model."""
    return key.isidentifier() and not key.startswith("_") and not hasattr(Form, key)


@cache
def _of(section: type[Section], path: str) -> type[Form]:
    fields = {
        name: (
            Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation,
            field.description,
        )
        for name, field in section.model_fields.items()
    }
    return form(section.__name__.partition("[")[0], section.__doc__, fields, path)


def _optional(kind: Any, path: str) -> Any:
    """Give the type of a field: for sections, and choices among them, forms; else its own."""
    sections = [each for each in _choices(kind) if _is_section(each)]
    if not sections:
        return Annotated[kind, *AS_WRITTEN]
    if len(sections) > 1:
        _tell_apart(sections, path)
    return Union[  # noqa: UP007 - of a number that is not known
        tuple(
            _of(each, path) if _is_section(each) else Annotated[each, *AS_WRITTEN]
            for each in _choices(kind)
        )
    ]


def _choices(kind: Any) -> Iterator[Any]:
    """Take a union of unions apart; what chose among them needs a tag, which may be left out."""
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(plain) in (Union, UnionType):
        for each in get_args(plain):
            yield from _choices(each)
    else:
        yield plain if _is_section(plain) else kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _takes_null(kind: Any) -> bool:
    return any(each in (None, NoneType, Any) for each in _choices(kind))


def _tell_apart(sections: list[type[Section]], path: str) -> None:
    """Tell the forms of sections, one of which params.yaml holds, what they are told apart by."""
    forms = tuple(_of(each, path) for each in sections)
    for section, model in zip(sections, forms, strict=True):
        model.variants = forms
        model.tag, model.words = next(
            (name, get_args(field.annotation))
            for name, field in section.model_fields.items()
            if get_origin(field.annotation) is Literal
        )
