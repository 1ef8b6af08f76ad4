"""This machine, its devices, versions, hubs and stores: what is wrong, and how it is cured."""
