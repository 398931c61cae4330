"""Python models as simulators for anybody who speaks PPX: the front end."""
