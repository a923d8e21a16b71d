"""JSON Schema (draft 2020-12) of recipe files, from the plugins that are installed.

Editors complete and check with it. A recipe that extends another may leave out anything, so what
is required stands in a second tree, which holds only for recipes without `extends`.
"""

from __future__ import annotations

import inspect
from typing import Any

import attrs

from genmem.host import Catalog
from genmem.recipe.docstrings import attribute_docstrings
from genmem.recipe.shapes import Shape, default_of, fields_of, key_of, shape_of
from genmem.recipe.structure import NAME
from genmem.recipe.tables import Recipe
from genmem.recipe.value_schemas import GONE, Schema, default_schema, value_schema

EXTENDS: Schema = {
    "type": "string",
    "description": "Start from this recipe: a file beside this one, or a shipped one.",
}


def schema_of(catalog: Catalog) -> Schema:
    """The schema of recipe files."""
    recipe = Properties(catalog).table(Recipe)
    recipe["properties"] = {"extends": EXTENDS, **recipe["properties"]}
    required = Requirements(catalog).table(Recipe)
    required["required"].remove("name")  # the file's, unless given
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "genmem recipe",
        **recipe,
        "if": {"not": {"required": ["extends"]}},
        "then": required,
        "$defs": {
            reference(one.kind, one.name): {
                "description": one.description,
                "properties": Properties(catalog).fields(one.config),
            }
            for kind in seated_kinds(Recipe)
            for one in catalog.components(kind)
        },
    }


def seated_kinds(cls: type[Any]) -> dict[str, None]:
    """Kinds of component that have a seat in this table or in one below it, in order."""
    kinds: dict[str, None] = {}
    for shape in map(shape_of, fields_of(cls)):
        if shape.how in ("seat", "seats", "inline"):
            kinds[shape.of] = None
        elif shape.how in ("table", "tables"):
            kinds |= seated_kinds(shape.of)
    return kinds


def reference(kind: str, name: str) -> str:
    """Where the keys of a component are defined."""
    return f"{kind}.{name}"


def choose(catalog: Catalog, kind: str, then: dict[str, Schema]) -> list[Schema]:
    """One rule for each component of a kind: if it is in use, its schema holds."""
    names = [component.name for component in catalog.components(kind) if component.name in then]
    return [{"if": {"properties": {"use": {"const": name}}}, "then": then[name]} for name in names]


@attrs.frozen
class Properties:
    """What may stand where."""

    catalog: Catalog

    def table(self, cls: type[Any]) -> Schema:
        """A table of this class."""
        inline = next((s.of for s in map(shape_of, fields_of(cls)) if s.how == "inline"), None)
        if inline is not None:
            return self.seat(inline, self.fields(cls))
        return {"type": "object", "properties": self.fields(cls), "additionalProperties": False}

    def fields(self, cls: type[Any]) -> dict[str, Schema]:
        """{key: schema} of a class's own keys."""
        said = attribute_docstrings(cls)
        shapes = [(field, shape_of(field)) for field in fields_of(cls)]
        return {
            key_of(field): {
                **_described(said.get(field.name) or _default_description(shape)),
                **self._shape(shape),
                **default_schema(default_of(field)),
            }
            for field, shape in shapes
            if shape.how != "inline"
        }

    def _shape(self, shape: Shape) -> Schema:
        match shape.how:
            case "table":
                schema = self.table(shape.of)
            case "seat":
                schema = self.seat(shape.of, {})
            case "seats":
                return _named(self.seat(shape.of, {}))
            case "tables":
                return _named(self.table(shape.of))
            case _:
                return value_schema(shape.of)
        return schema if shape.required else {"anyOf": [schema, GONE]}

    def seat(self, kind: str, own: dict[str, Schema]) -> Schema:
        """A component's table. Without `use`, as in a recipe that extends another, its keys are open."""
        names = [component.name for component in self.catalog.components(kind)]
        references = {name: {"$ref": f"#/$defs/{reference(kind, name)}"} for name in names}
        use = {"enum": names, "description": f"The {kind}."} if names else False
        return {
            "type": "object",
            "properties": {"use": use, **own},
            "if": {"required": ["use"]},
            "then": {
                "properties": dict.fromkeys(["use", *own], True),
                "allOf": choose(self.catalog, kind, references) or [True],
                "unevaluatedProperties": False,
            },
        }


def _described(text: str) -> Schema:
    return {"description": text} if text else {}


def _default_description(shape: Shape) -> str:
    """What is said of a field that says nothing itself."""
    match shape.how:
        case "seat":
            return f"The {shape.of}."
        case "seats":
            return f"A {shape.of} in each of these tables, whose names you choose."
        case "table" | "tables":
            return inspect.cleandoc(shape.of.__doc__ or "").partition("\n")[0]
    return ""


def _named(table: Schema) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME.pattern}$"},
        "additionalProperties": {"anyOf": [table, GONE]},
    }


@attrs.frozen
class Requirements:
    """What must stand where, in a recipe that starts from nothing."""

    catalog: Catalog

    def table(self, cls: type[Any]) -> Schema:
        """What a table of this class must have; empty where it need have nothing."""
        shapes = {key_of(field): shape_of(field) for field in fields_of(cls)}
        required = [key for key, shape in shapes.items() if shape.required and shape.how != "inline"]
        below = {key: self._shape(shape) for key, shape in shapes.items()}
        inner = {key: schema for key, schema in below.items() if schema and shapes[key].how != "inline"}
        seats = [self.seat(shape.of) for shape in shapes.values() if shape.how == "inline"]
        found: Schema = {"required": required} if required else {}
        found |= {"properties": inner} if inner else {}
        return found | ({"allOf": seats} if seats else {})

    def _shape(self, shape: Shape) -> Schema:
        match shape.how:
            case "table":
                return self.table(shape.of)
            case "seat":
                return self.seat(shape.of)
            case "seats":
                return {"additionalProperties": self.seat(shape.of)}
            case "tables":
                inner = self.table(shape.of)
                return {"additionalProperties": inner} if inner else {}
        return {}

    def seat(self, kind: str) -> Schema:
        """A seat needs `use`, and what the component there needs."""
        needs = {one.name: self.table(one.config) for one in self.catalog.components(kind)}
        rules = choose(self.catalog, kind, {name: need for name, need in needs.items() if need})
        return {"required": ["use"]} | ({"allOf": rules} if rules else {})
