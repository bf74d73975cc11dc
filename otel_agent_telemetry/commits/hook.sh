# What a hook of git does for agent-telemetry. Sourced by the hooks that `agent-telemetry git install`
# writes, which set at_hook, at_python, at_root, at_base, at_url and at_trailer (see install.py).
#
# A POSIX shell and no Python on the commit's way: without a sign of an open run only variables and the
# names of a few files are looked at. With one, the trailer is added here where the run's id is at hand,
# and the rest is left to a process in the background (background.py).
#
# Everything that comes from a repository or from the environment is data: it is quoted, and never evaluated.
# A hook of husky runs under `sh -e`: whatever may fail stands in a condition.

at_base=${TELEMETRY_BASE_DIR:-${AGENT_METRICS_DIR:-$at_base}}
at_buffer=${TELEMETRY_BUFFER_DIR:-$at_base/buffer}
at_url=${TELEMETRY_API_URL:-$at_url}
at_trailer=${TELEMETRY_COMMIT_TRAILER:-$at_trailer}
at_newline='
'

# Succeed for a run id that can stand in one line of a message.
at_is_id() {
    case $1 in
        '' | *[![:print:]]* | */* | *\\*) return 1 ;;
        *[![:space:]]*) [ "${#1}" -le 255 ] ;;
        *) return 1 ;;
    esac
}

# Set at_run to the run of the environment, or at_seen where the background has to find out.
at_read_environment() {
    at_run='' at_seen=''
    at_id=${TELEMETRY_RUN_ID-}
    case ",${BAGGAGE-}" in
        *,agent_run.id=* | *,[\ ]agent_run.id=*)
            if [ -z "$at_id" ]; then
                at_id=${BAGGAGE#*agent_run.id=}
                at_id=${at_id%%[,;]*}
            fi
            ;;
    esac
    case $at_id in
        *%*) at_seen=1 ;;
        *)
            if at_is_id "$at_id"; then
                at_run=$at_id
            elif [ -n "$at_id" ]; then
                at_seen=1
            fi
            ;;
    esac
    # Each of these is set by an agent in the environment of its commands; see `agent_variables.py`.
    if [ -n "${TRACEPARENT-}${CLAUDECODE-}${CLAUDE_CODE_SESSION_ID-}${CODEX_THREAD_ID-}${CODEX_SANDBOX-}${GEMINI_CLI-}${QWEN_CODE-}${QWEN_CODE_SESSION_ID-}${OPENCODE-}${COPILOT_CLI-}${COPILOT_AGENT_SESSION_ID-}" ]; then
        at_seen=1
    fi
}

# Set at_open to the runs that are open in processes which work in, above or below this directory: those of the
# longest of these paths, a run id in each line.
at_find_open_runs() {
    at_open='' at_length=0 at_writers=$at_newline
    for at_segment in "$at_buffer"/*-*-*-*.jsonl; do
        at_writer=${at_segment##*/}
        at_writer=${at_writer%-*}
        at_pid=${at_writer#*-}
        at_pid=${at_pid%%-*}
        # A segment is left behind by a process that was killed; its runs are not open.
        case $at_pid in '' | *[!0-9]*) continue ;; esac
        case $at_writers in *"$at_newline$at_writer$at_newline"*) continue ;; esac
        kill -0 "$at_pid" 2>/dev/null || continue
        at_writers=$at_writers$at_writer$at_newline
        at_directory=''
        IFS= read -r at_header <"$at_segment" || continue
        case $at_header in
            *'"directory":"'*)
                at_directory=${at_header##*'"directory":"'}
                at_directory=${at_directory%%'"'*}
                ;;
        esac
        case $at_directory in '' | / | *\\*) continue ;; esac
        case $PWD/ in
            "$at_directory"/*) ;;
            *) case $at_directory/ in "$PWD"/*) ;; *) continue ;; esac ;;
        esac
        [ "${#at_directory}" -ge "$at_length" ] || continue
        at_found=$(at_open_runs_of "$at_writer") || continue
        [ -n "$at_found" ] || continue
        if [ "${#at_directory}" -gt "$at_length" ]; then at_open=''; fi
        at_length=${#at_directory}
        at_open=$at_open$at_found$at_newline
    done
}

# Print the open runs of a writer, without those that have an open run inside them.
at_open_runs_of() {
    for at_part in "$at_buffer/$1"-*.jsonl; do
        # What is further back is not looked at: a hook must not read megabytes.
        tail -c 1048576 "$at_part"
    done 2>/dev/null | LC_ALL=C awk '
        function text(name,   at, rest) {
            at = index($0, "\"" name "\":\"")
            if (!at) return ""
            rest = substr($0, at + length(name) + 4)
            return substr(rest, 1, index(rest, "\"") - 1)
        }
        index($0, "{\"record_type\":\"run\",") == 1 {
            run[text("event_id")] = text("run_id")
            parent[text("event_id")] = text("parent_run_id")
            open[text("event_id")] = text("status") == "running"
        }
        END {
            for (event in open) if (open[event]) outer[parent[event]] = 1
            for (event in open) if (open[event] && run[event] && !(run[event] in outer)) print run[event]
        }'
}

# Set at_run to the run that this commit is made in, at_open to the runs open where it is made, and at_seen where the
# background has to find out more.
at_find_run() {
    at_open=''
    at_read_environment
    [ -z "$at_run" ] || return 0
    at_find_open_runs
    at_open=${at_open%"$at_newline"}
    case $at_open in
        '') ;;
        *"$at_newline"*) at_seen=1 ;;
        *) if [ -z "$at_seen" ] && at_is_id "$at_open"; then at_run=$at_open; else at_seen=1; fi ;;
    esac
    [ ! -e "$at_buffer/agents.open" ] || at_seen=1
    case $at_url in '' | *://localhost[:/]* | *://localhost | *://127.* | *://\[::1\]*) ;; *) at_seen=1 ;; esac
}

# Succeed for a message with a line of ours, indented or not. A process is started for a long one alone.
at_names_run() {
    at_count=0
    while IFS=' ' read -r at_line; do
        case $at_line in "$at_trailer: "*) return 0 ;; esac
        at_count=$((at_count + 1))
        if [ "$at_count" -ge 40 ]; then
            grep -q "^ *$at_trailer: " "$1"
            return
        fi
    done <"$1"
    return 1
}

# Nearly every commit is made outside of runs: it ends here, before the rest is read.
case $at_hook in
    prepare-commit-msg | commit-msg)
        # Without a message that is given, the editor comes first, and then `commit-msg`.
        if [ "$at_hook" = prepare-commit-msg ] && [ -z "${2-}" ]; then return 0; fi
        at_find_run
        if [ -z "$at_run" ]; then return 0; fi
        ;;
    post-commit)
        at_find_run
        # A message that was taken over from another commit names a run: cherry-pick, squash, a merge.
        if [ -z "$at_run$at_seen" ]; then at_names_run "${GIT_DIR:-.git}/COMMIT_EDITMSG" 2>/dev/null || return 0; fi
        ;;
esac

# Print the text of a message: without what follows the scissors, comments, sign-offs and our own line. Git takes a
# message of nothing else for an empty one. Without an editor, which git shows by GIT_EDITOR, comments are text.
at_content() {
    sed '/ >8 -\{24\}$/,$d' "$1" |
        if [ "${GIT_EDITOR-}" = : ]; then git stripspace; else git stripspace --strip-comments; fi |
        grep -v -e '^Signed-off-by: ' -e "^$at_trailer: " -e '^$'
}

# Add the trailer to a message that has a text. Not while a rebase goes on: it rewrites what others did.
at_sign() {
    case $at_trailer in off | '' | *[!A-Za-z0-9-]*) return 0 ;; esac
    if [ -d "${1%/*}/rebase-merge" ] || [ -d "${1%/*}/rebase-apply" ]; then return 0; fi
    at_text=$(at_content "$1") || at_text=''
    at_template=${1%/*}/agent-telemetry-template
    if [ -e "$at_template" ]; then
        # Git refuses a template that was not edited, which a line of ours would be taken for.
        if [ "$at_text" = "$(cat "$at_template")" ]; then at_text=''; fi
        rm -f "$at_template"
    fi
    if [ -z "$at_text" ]; then
        # Whoever deletes all but our line to give the commit up gives it up.
        if grep -q "^$at_trailer: " "$1"; then : >"$1"; fi
        return 0
    fi
    # The message of a merge has no line feed at its end, and git would put the trailer under the subject.
    if [ -n "$(tail -c 1 "$1")" ]; then echo >>"$1"; fi
    # By default a value is compared with its neighbour alone, and a line `---` ends the message.
    git -c trailer.separators=: interpret-trailers --in-place --no-divider --where end \
        --if-exists addIfDifferent --if-missing add --trailer "$at_trailer: $at_run" "$1"
}

# Start the background: a process that outlives the terminal and holds none of its streams. Its standard input is ours.
at_background() {
    (
        trap '' HUP INT QUIT
        TELEMETRY_BASE_DIR=$at_base
        export TELEMETRY_BASE_DIR
        # -I: nothing of the repository, whose folder this is, and no variable of Python decides what is imported.
        exec "$at_python" -I -c 'import sys
sys.path.insert(0, sys.argv.pop(1))
from otel_agent_telemetry.commits.background import main
main(sys.argv[1:])' "$at_root" "$@" >/dev/null 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
    )
}

at_after_commit() {
    # Both in one call: the commit must be known now, HEAD may have moved when the background has started.
    at_place=$(git rev-parse --absolute-git-dir --git-common-dir HEAD) || return 0
    at_commit=${at_place##*"$at_newline"}
    at_place=${at_place%"$at_newline"*}
    at_git=${at_place%%"$at_newline"*}
    # The commits of a rebase come in one piece when it ends.
    if [ -d "$at_git/rebase-merge" ] || [ -d "$at_git/rebase-apply" ]; then return 0; fi
    # From now on rewritten commits are looked at, see below.
    : >>"${at_place#*"$at_newline"}/agent-telemetry-commits" || return 0
    at_background commit "$at_git" "$at_trailer" "$at_commit" "$at_open" </dev/null &
}

# at_lines: what git gives the hook, `old new` in each line.
at_after_rewrite() {
    at_place=$(git rev-parse --absolute-git-dir --git-common-dir) || return 0
    at_index=${at_place#*"$at_newline"}/agent-telemetry-commits
    [ -f "$at_index" ] || return 0
    # Written here and not in the background, so that one which is still at work on the old commit finds it.
    printf '%s\n' "$at_lines" | sed -n 's/^\([0-9a-f]\{40,64\}\) \([0-9a-f]\{40,64\}\).*/rewrite \1 \2/p' >>"$at_index"
    printf '%s\n' "$at_lines" | at_background rewrite "${at_place%%"$at_newline"*}" "$at_trailer" &
}

case $at_hook in
    prepare-commit-msg)
        if [ "$2" = template ]; then
            at_content "$1" >"${1%/*}/agent-telemetry-template"
        elif [ "${#at_run}" -le 60 ]; then
            # Git runs this hook with --no-verify too. But what it adds a linter in `commit-msg` sees, and some refuse
            # long lines: these are added behind it.
            at_sign "$1"
        fi
        ;;
    commit-msg) at_sign "$1" ;;
    post-commit) at_after_commit ;;
    post-rewrite) at_after_rewrite ;;
esac 2>/dev/null || :
