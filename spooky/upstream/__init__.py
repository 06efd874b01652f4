"""How requests reach backends: origins, connections, pools and embedded applications."""
