"""Check this machine's devices, versions, hubs and stores; report problems and fixes."""
