"""Settings files as users have them: shapes found in public repositories and documentation, with values of our own."""

CLAUDE = {
    "permissions and hooks": """{
  "$schema": "https://json.example/claude-code-settings.json",
  "permissions": {
    "allow": ["Bash(make test)", "Read(~/.profile)"],
    "deny": [
      "Bash(curl *)",
      "Read(./.env)"
    ],
    "defaultMode": "acceptEdits"
  },
  "hooks": {
    "Stop": [
      {"matcher": "", "hooks": [{"type": "command", "command": "say \\"done\\" // ready"}]}
    ]
  }
}
""",
    "four spaces, an env, no last line end": """{
    "cleanupPeriodDays": 30,
    "env": {
        "MY_TOOL": "keep",
        "BASH_DEFAULT_TIMEOUT_MS": "600000"
    },
    "statusLine": {"type": "command", "command": "~/bin/status"}
}""",
    "tabs, comments and a comma at the end": """// managed by my dotfiles
{
\t"model": "opus",
\t"env": {
\t\t"A": "1", // first
\t\t/* the last one */ "B": "2",
\t},
\t"enabledPlugins": {},
}
""",
    "Windows line ends": '{\r\n  "model": "sonnet",\r\n  "env": {}\r\n}\r\n',
    "one line": '{"theme": "dark", "env": {"A": "1"}}',
    "empty object": "{}",
    "empty file": "",
}

CODEX = {
    "profiles and servers": """model = "some-model"
approval_policy = "on-request"

[mcp_servers.files]
command = "npx"
args = ["-y", "@example/server", "/srv"]

[mcp_servers.files.env]
TOKEN = "abc"

[profiles.fast]
model = "small"
""",
    "an otel table with a comment": """# my codex
model = "some-model"

[otel]
environment = "staging" # where I work
# log_user_prompt = true

[projects."/home/me/code"]
trust_level = "trusted"
""",
    "texts and arrays of several lines": '''notify = [
  "python3", # the hook
  "/home/me/notify.py",
]
developer_instructions = """
[otel]
exporter = "this is a text"
"""
[tui]
notifications = true''',
    "Windows line ends": 'model = "m"\r\n\r\n[history]\r\npersistence = "none"\r\n',
    "empty file": "",
}

GEMINI = {
    "telemetry off": """{
  "theme": "Atom One",
  "selectedAuthType": "oauth-personal",
  "telemetry": {
    "logPrompts": true
  },
  "usageStatisticsEnabled": false
}
""",
    "nested settings": """{
  "general": { "vimMode": true, "sessionRetention": { "enabled": true, "maxAge": "30d" } },
  "ui": {
    "customWittyPhrases": [
      "one {",
      "two }"
    ]
  },
  "mcpServers": {}
}
""",
    "comments": """{
  /* work machine */
  "security": { "auth": { "selectedType": "gemini-api-key" } }, // key in the environment
  "context": {
    "fileName": ["AGENTS.md"] // shared
    // "importFormat": "tree"
  }
  // end
}
""",
}
