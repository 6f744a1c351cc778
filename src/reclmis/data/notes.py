"""What `reclmis.notes` says of places, under the name that data code knows it by."""

from ..notes import SIDES, ZONES, Zone, mirror_note, note_count, note_survives, note_zones

__all__ = ["SIDES", "ZONES", "Zone", "mirror_note", "note_count", "note_survives", "note_zones"]
