"""`/_local/machines`, `/_local/preempt`, `/_local/capacity`: what runs, and where there is room."""

from __future__ import annotations

from typing import Any

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue

from local.rest import pattern
from local.rest.compute.capacity import Capacity
from local.rest.compute.life import Life
from local.rest.compute.links import last
from local.rest.compute.store import Store
from local.rest.world import World


def install(app: Flask, world: World) -> None:
    """Add the routes, and wire the machines' callbacks."""
    life, capacity = world.of(Life), world.of(Capacity)

    def summary(instance: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": instance["id"],
            "name": instance["name"],
            "zone": last(instance["zone"]),
            "status": instance["status"],
            "labels": instance.get("labels", {}),
            "guest_attributes": dict(life.attributes.get(instance["id"], {})),
        }

    @app.get("/_local/machines")
    def machines() -> ResponseReturnValue:
        with world.lock:
            return jsonify([summary(i) for i in world.of(Store).all("instances")])

    @app.get("/_local/machines/<instance_id>")
    def machine(instance_id: str) -> ResponseReturnValue:
        with world.lock:
            instance = world.of(Store).by_id("instances", instance_id)
            found = summary(instance) if instance else {}
        commands = world.machines.commands(instance_id)
        serial = world.machines.serial(instance_id)
        if not found and not commands and not serial:
            return jsonify({"error": f"no machine {instance_id}"}), 404
        return jsonify(found | {"commands": commands, "serial": serial})

    @app.post("/_local/preempt/<zone>/<name>")
    def preempt(zone: str, name: str) -> ResponseReturnValue:
        instance = life.preempt(zone, name)
        if instance is None:
            return jsonify({"error": f"no running SPOT instance {name} in {zone}"}), 404
        return jsonify({"preempted": name, "id": instance["id"]})

    @app.get("/_local/capacity")
    def shown() -> ResponseReturnValue:
        with world.lock:
            return jsonify(capacity.shown())

    @app.post("/_local/capacity")
    def play() -> ResponseReturnValue:
        try:
            wanted = pattern.parse(request.get_json(silent=True))
            with world.lock:
                capacity.play(wanted)
                return jsonify(capacity.shown())
        except pattern.PatternError as error:
            return jsonify({"error": str(error)}), 400

    @app.delete("/_local/capacity")
    def forget() -> ResponseReturnValue:
        with world.lock:
            capacity.play(pattern.NOTHING)
            return jsonify(capacity.shown())
