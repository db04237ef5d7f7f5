"""Files read and written safely: regular ones only, atomic writes; arrays, JSON, YAML, CSV within bounds."""
