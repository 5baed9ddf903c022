"""How each agent program is pointed at the scripted model, without a key of any worth."""

from __future__ import annotations


def codex_config(url: str) -> str:
    """Return a `config.toml` for CODEX_HOME that selects the model at `url`, without key or retries."""
    return f"""\
model_provider = "scripted"

[model_providers.scripted]
name = "scripted"
base_url = "{url}"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false

[features]
plugins = false
unbounded_connection_retries = false
"""


def claude_environment(root: str, config: str) -> dict[str, str]:
    """Return the environment in which Claude Code asks the model at `root`; its settings are in `config`."""
    return {"ANTHROPIC_BASE_URL": root, "ANTHROPIC_API_KEY": "scripted", "CLAUDE_CONFIG_DIR": config}
