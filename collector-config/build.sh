#!/usr/bin/env bash
# Builds the collector of builder.yaml into the cache folder, unless it is there already; prints its path.
#
# The name holds a hash of builder.yaml and Go's version, so that a change of either builds anew and nothing else does.
# AGENT_TELEMETRY_CACHE moves the cache folder, so that a machine may keep it; its default is .cache in the checkout.
set -euo pipefail
manifest=$(cd "$(dirname "$0")" && pwd)/builder.yaml
cache=${AGENT_TELEMETRY_CACHE:-$(dirname "$manifest")/../.cache}/collector
name=agent-telemetry-collector

# The collector's modules ask for Go 1.26; since 1.21 Go fetches the version that a module asks for by itself.
if ! go=$(go env GOVERSION 2>/dev/null) || [[ $go =~ ^go1\.(1?[0-9]|20)([^0-9]|$) ]]; then
  echo "make collector: needs Go 1.21 or newer, which fetches Go 1.26 by itself (go.dev/dl); found: ${go:-none}" >&2
  exit 1
fi

export GOTOOLCHAIN=auto
mkdir -p "$cache"
cd "$cache"
binary=$name-$(sha256sum "$manifest" | cut -c1-12)-$go
if [ ! -x "$binary" ]; then
  version=$(sed -n 's/^  version: //p' "$manifest")
  go run "go.opentelemetry.io/collector/cmd/builder@v$version" --config "$manifest" >&2
  find . -maxdepth 1 -name "$name*" -delete # older ones: 80 MB each
  mv "source/$name" "$binary"
  rm -rf source
fi
ln -sf "$binary" "$name"
echo "$PWD/$binary"
