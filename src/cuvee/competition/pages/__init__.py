"""The pages: rendered here, complete without scripts; htmx only saves whole reloads."""
