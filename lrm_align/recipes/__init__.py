"""One file per method and per baseline: the stages of a run, composed of the pieces in the other folders."""
