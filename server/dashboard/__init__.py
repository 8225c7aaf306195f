"""Look at a run while it goes: `overview` reads its folder, `web` shows a page, `gauges` tell Prometheus."""
