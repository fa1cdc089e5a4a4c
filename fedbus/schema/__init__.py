"""The schema registry's core: subjects, versions and ids, and the validation of event data against them. Pure."""
