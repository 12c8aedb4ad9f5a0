#!/bin/sh
# Reports a failure to Regreen, waits for the outcome, and prints it. Needs a POSIX shell and curl. Always exits 0: a reporting error
# never fails the pipeline.
#
# Server:  REGREEN_URL          URL of the service, such as http://regreen:8000
#          REGREEN_CA_FILE      CA certificates to trust
# Auth:    REGREEN_TOKEN_FILE   file with an API key or a service account token (/var/run/secrets/regreen/token, if it exists)
#          REGREEN_TOKEN        the token itself
# Report:  REGREEN_NAMESPACE, REGREEN_POD; optional:
#          REGREEN_CONTAINER, REGREEN_PIPELINE, REGREEN_TASK, REGREEN_RUN, REGREEN_RUN_URL, REGREEN_LAST_GOOD_RUN
#          REGREEN_REPOSITORY, REGREEN_COMMIT   URL and hash to find the pull request; the hash of its head
#          REGREEN_LOG_FILE, REGREEN_GOOD_LOG_FILE   logs to send if the pod has none or will be deleted
#          REGREEN_LOG_BYTES    number of bytes to send from the end of each log (4000000)
# Outcome: REGREEN_WAIT         total time in seconds (600); 0: do not wait for the outcome
#          REGREEN_RESULT_FILE  file for the URL of the issue; empty if there is none
set -u
# Turn off tracing: it would print the token.
set +x
umask 077

say() { printf '%s\n' "$1" | sed 's/^/regreen: /'; }

stop() {
    say "$1"
    exit 0
}

work=$(mktemp -d) || stop "the failure was not reported: cannot create temporary files"
# Exit 0 on any error.
trap 'rm -rf "$work"; exit 0' EXIT
trap 'exit 0' HUP INT TERM

# Prints standard input as an ASCII-only JSON string; bytes that are not UTF-8 become U+FFFD.
json_string() {
    printf '"'
    od -An -v -tu1 | LC_ALL=C awk '
        BEGIN {
            for (i = 0; i < 128; i++) ascii[i] = i < 32 || i == 127 ? sprintf("\\u%04x", i) : sprintf("%c", i)
            ascii[9] = "\\t"; ascii[10] = "\\n"; ascii[13] = "\\r"; ascii[34] = "\\\""; ascii[92] = "\\\\"
            bad = "\\ufffd"
        }
        function begin(more, bits, from, to) { need = more; code = bits; low = from; high = to }
        function escaped(code) {
            if (code < 65536) return sprintf("\\u%04x", code)
            code -= 65536
            return sprintf("\\u%04x\\u%04x", 55296 + int(code / 1024), 56320 + code % 1024)
        }
        {
            text = ""
            for (i = 1; i <= NF; i++) {
                byte = $i + 0
                if (need && byte >= low && byte <= high) {
                    code = code * 64 + byte - 128; low = 128; high = 191
                    if (--need == 0) text = text escaped(code)
                    continue
                }
                if (need) { text = text bad; need = 0 }
                if (byte < 128) text = text ascii[byte]
                else if (byte >= 194 && byte <= 223) begin(1, byte - 192, 128, 191)
                else if (byte >= 224 && byte <= 239) begin(2, byte - 224, byte == 224 ? 160 : 128, byte == 237 ? 159 : 191)
                else if (byte >= 240 && byte <= 244) begin(3, byte - 240, byte == 240 ? 144 : 128, byte == 244 ? 143 : 191)
                else text = text bad
            }
            printf "%s", text
        }
        END { if (need) printf "%s", bad }'
    printf '"'
}

# Prints a field of the report if it has a value.
member() {
    [ -n "$2" ] || return 0
    printf '%s"%s":' "$comma" "$1"
    printf '%s' "$2" | json_string
    comma=,
}

# Prints a URL field. Regreen rejects reports with an invalid URL, so the field is omitted instead.
address_member() {
    case $2 in
    *[[:space:][:cntrl:]]*) ;;
    '' | http://[!/]* | https://[!/]*)
        member "$1" "$2"
        return 0
        ;;
    esac
    say "$2 is not an http or https URL; $1 is omitted" >&2
}

log_member() {
    [ -n "$2" ] || return 0
    if [ ! -r "$2" ]; then
        say "the log $2 cannot be read; it is omitted" >&2
        return 0
    fi
    printf '%s"%s":' "$comma" "$1"
    tail -c "$log_bytes" "$2" | json_string
    comma=,
}

# Converts an SSH clone URL to the web URL of the repository, where its pull requests are. Drops the SSH port.
in_the_web() {
    host=''
    case $1 in
    ssh://*/*)
        host=${1#ssh://}
        path=${host#*/}
        host=${host%%/*}
        host=${host#*@}
        host=${host%:*}
        ;;
    *://*) ;;
    *@*:*)
        host=${1#*@}
        path=${host#*:}
        path=${path#/}
        host=${host%%:*}
        ;;
    esac
    if [ -n "$host" ]; then printf 'https://%s/%s' "$host" "${path%.git}"; else printf '%s' "$1"; fi
}

report() {
    comma=''
    printf '{'
    member namespace "$REGREEN_NAMESPACE"
    member pod_name "$REGREEN_POD"
    member container_name "${REGREEN_CONTAINER:-}"
    member pipeline "${REGREEN_PIPELINE:-}"
    member task "${REGREEN_TASK:-}"
    member run "${REGREEN_RUN:-}"
    address_member run_url "${REGREEN_RUN_URL:-}"
    address_member last_good_run "${REGREEN_LAST_GOOD_RUN:-}"
    member repository "$(in_the_web "${REGREEN_REPOSITORY:-}")"
    member commit "${REGREEN_COMMIT:-}"
    log_member log "${REGREEN_LOG_FILE:-}"
    log_member good_log "${REGREEN_GOOD_LOG_FILE:-}"
    printf '}'
}

# Prints a string field of the response, which is JSON without spaces. Removes control characters.
answer() {
    LC_ALL=C awk -v name="$1" '
        { json = json $0 }
        END {
            if (!match(json, "\"" name "\":\"([^\"\\\\]|\\\\.)*\"")) exit
            rest = substr(json, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
            while ((i = index(rest, "\\"))) {
                escape = substr(rest, i + 1, 1)
                plain = escape == "n" ? "\n" : escape ~ /[bfrtu]/ ? " " : escape
                text = text substr(rest, 1, i - 1) plain
                rest = substr(rest, i + (escape == "u" ? 6 : 2))
            }
            print text rest
        }' "$work/answer" | LC_ALL=C tr -d '\000-\011\013-\037\177'
}

# Sends the report with a time limit in seconds. The idempotency key prevents duplicates. The token is passed on standard input, because
# other users can see arguments.
send() {
    limit=$1
    set -- -q -sS --connect-timeout 10 --max-time "$limit" -o "$work/answer" -D "$work/head" -w '%{http_code}'
    [ -z "${REGREEN_CA_FILE:-}" ] || set -- "$@" --cacert "$REGREEN_CA_FILE"
    [ -z "$prefer" ] || set -- "$@" -H "prefer: $prefer"
    : >"$work/answer"
    : >"$work/head"
    code=$(
        curl "$@" -H 'content-type: application/json' -H "idempotency-key: $key" \
            --data-binary "@$work/report" --config - "$url/report-failure" 2>"$work/trouble" <<CONFIG
$authorization
CONFIG
    )
}

# Prints the seconds of Retry-After, or 0.
retry_after() {
    number "$(sed -n 's/^[Rr][Ee][Tt][Rr][Yy]-[Aa][Ff][Tt][Ee][Rr]:[[:space:]]*\([0-9]*\)[[:space:]]*$/\1/p' "$work/head" | head -n 1)" 0
}

finish() {
    result=$(answer result)
    if [ -n "${REGREEN_RESULT_FILE:-}" ]; then
        known='s/^Known cause, seen [0-9]* times: \(https\{0,1\}:[^[:space:],;]*\).*/\1/p'
        issue=$(printf '%s\n' "$result" | sed -n -e 's/^Issue created: \(https\{0,1\}:[^[:space:]]*\).*/\1/p' -e "$known" | head -n 1)
        printf '%s' "$issue" >"$REGREEN_RESULT_FILE"
    fi
    stop "$result"
}

# Handles the response; returns if the report should be sent again.
judge() {
    detail=$(answer detail)
    report_id=$(answer report_id)
    case $code in
    200)
        [ -n "$report_id" ] || stop "the failure was not reported: the server at $url is not Regreen. Check REGREEN_URL."
        finish
        ;;
    202)
        accepted=$report_id
        [ -n "$outcome" ] || stop "the report was accepted; its outcome will be at $url/reports/$accepted"
        prefer=''
        trouble='still in progress'
        ;;
    400 | 422) stop "the failure was not reported: the report is invalid ($code): $detail. Correct the REGREEN_ variables." ;;
    401) stop "the failure was not reported: authentication failed (401): $detail. Set REGREEN_TOKEN_FILE or REGREEN_TOKEN to a key that has not expired (regreen token create --role reporter --expires 365d), or to a service account token for the audience regreen." ;;
    403) stop "the failure was not reported: permission denied (403): $detail. Use a key for the namespace $REGREEN_NAMESPACE (regreen token create --role reporter --namespace $REGREEN_NAMESPACE --expires 365d), or a service account in it." ;;
    413) stop "the failure was not reported: it is too large (413): $detail. Set REGREEN_LOG_BYTES to less than $log_bytes." ;;
    408 | 425 | 429 | 5??)
        # Regreen returns the ID of a failed report; a proxy does not.
        [ "$code" != 502 ] || [ -z "$report_id" ] || stop "the investigation failed ($url/reports/$report_id): $detail"
        trouble="it returned $code${detail:+: $detail}"
        ;;
    000 | '') trouble=$(head -n 1 "$work/trouble") ;;
    *) stop "the failure was not reported: $url returned $code${detail:+: $detail}. Check REGREEN_URL." ;;
    esac
}

# Prints a checksum of standard input. BusyBox may have no cksum.
checksum() {
    od -An -v -tu4 | LC_ALL=C awk '{ for (i = 1; i <= NF; i++) sum = (sum * 65599 + $i) % 4294967291 } END { printf "%.0f", sum }'
}

# Prints the first argument if it is a valid number for the shell, otherwise the second.
number() {
    case $1 in
    '' | *[!0-9]* | 0?* | ??????????*) printf '%s' "$2" ;;
    *) printf '%s' "$1" ;;
    esac
}

command -v curl >/dev/null || stop "the failure was not reported: curl is not installed"
[ -n "${REGREEN_URL:-}" ] || stop "the failure was not reported: REGREEN_URL is not set"
[ -n "${REGREEN_NAMESPACE:-}" ] || stop "the failure was not reported: REGREEN_NAMESPACE is not set"
[ -n "${REGREEN_POD:-}" ] || stop "the failure was not reported: REGREEN_POD is not set"
[ -z "${REGREEN_RESULT_FILE:-}" ] || : >"$REGREEN_RESULT_FILE"
url=${REGREEN_URL%/}
log_bytes=$(number "${REGREEN_LOG_BYTES:-}" 4000000)
wait=$(number "${REGREEN_WAIT:-}" 600)
# Regreen responds within its `server.wait`; a connection without data for longer is lost.
longest=330
# With less time, first ask Regreen only to accept the report, so that a late outcome does not look like a lost report.
prefer=''
[ "$wait" -ge "$longest" ] || prefer=respond-async
outcome=yes
if [ "$wait" -eq 0 ]; then
    outcome=''
    wait=30
fi

token=${REGREEN_TOKEN:-}
unset REGREEN_TOKEN
token_file=${REGREEN_TOKEN_FILE:-/var/run/secrets/regreen/token}
if [ -z "$token" ] && { [ -n "${REGREEN_TOKEN_FILE:-}" ] || [ -e "$token_file" ]; }; then
    [ -r "$token_file" ] || stop "the failure was not reported: the token in $token_file cannot be read"
    token=$(cat "$token_file")
fi
case $token in
'') authorization='' ;;
*[!A-Za-z0-9._~+/=-]*) stop "the failure was not reported: the token contains invalid characters" ;;
*) authorization="header = \"authorization: Bearer $token\"" ;;
esac

report >"$work/report"
key=$(printf '%s/%s/%s/%s' "$REGREEN_NAMESPACE" "$REGREEN_POD" "${REGREEN_TASK:-}" "${REGREEN_RUN:-}" | LC_ALL=C tr -c 'A-Za-z0-9._/-' _ | cut -c 1-200)
# A retry of the same run with different content is another report.
key=$key/$(checksum <"$work/report")

accepted=''
pause=1
deadline=$(($(date +%s) + wait))
left=$wait
while [ "$left" -gt 0 ]; do
    send $((left < longest ? left : longest))
    judge
    asked=$(retry_after)
    rest=$((asked > pause ? asked : pause))
    left=$((deadline - $(date +%s)))
    [ "$rest" -lt "$left" ] || break
    sleep "$rest"
    left=$((deadline - $(date +%s)))
    pause=$((pause < 16 ? pause * 2 : 30))
done
[ -z "$accepted" ] || stop "Regreen accepted the report; it is still in progress; its outcome will be at $url/reports/$accepted"
stop "the failure was not reported: $url did not accept it within $wait s: $trouble"
