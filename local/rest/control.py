"""`/_local/...`: what people and tests steer the local cloud with. Never used by product code."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from local.rest.faults import FaultError
from local.rest.settings import SettingError
from local.rest.world import World


def install_control(app: Flask, world: World) -> None:
    """Health, settings, calls and faults."""

    @app.get("/_local/health")
    def health() -> ResponseReturnValue:
        return jsonify({"ok": True, "project": world.project})

    @app.get("/_local/calls")
    def calls() -> ResponseReturnValue:
        return jsonify(world.calls.report())

    @app.get("/_local/settings")
    def settings() -> ResponseReturnValue:
        return jsonify(world.settings)

    @app.post("/_local/settings")
    def change() -> ResponseReturnValue:
        try:
            return jsonify(world.change_settings(_object()))
        except SettingError as error:
            return jsonify({"error": str(error)}), 400

    @app.get("/_local/faults")
    def faults() -> ResponseReturnValue:
        return jsonify(world.faults.shown())

    @app.post("/_local/faults")
    def order() -> ResponseReturnValue:
        try:
            return jsonify(world.faults.order(request.get_json(silent=True)))
        except FaultError as error:
            return jsonify({"error": str(error)}), 400

    @app.delete("/_local/faults")
    def clear() -> ResponseReturnValue:
        world.faults.clear()
        return jsonify([])


def _object() -> dict[str, Any]:
    raw = request.get_json(silent=True)
    if not isinstance(raw, dict):
        raise SettingError("settings are a JSON object of name and value")
    return raw
