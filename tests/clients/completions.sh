#!/bin/sh
# A client of the inference service that is not its own: curl, one request a connection, several at a time, other
# prompts, other encodings of a request, HTTP/1.0.
#
#     completions.sh PORT
set -eu
url=http://127.0.0.1:$1
ask() { curl --silent --show-error --fail --max-time 30 "$@"; }
complete() {
    ask --header 'Content-Type: application/json' \
        --data "{\"prompt\": \"$1\", \"max_tokens\": ${2:-24}, \"stream\": ${3:-false}}" "$url/v1/completions"
}
ask "$url/v1/models" | grep -q next-character
for prompt in 'an unseen prompt' 'äöü ß 漢字' '' 'x'; do
    complete "$prompt" | grep -q completion
done
complete 'streamed' 60 true | grep -q DONE
# Several clients at once, each with its own connection.
for number in 1 2 3 4 5 6; do
    complete "client $number" 100 true > /dev/null &
done
wait
# A body in chunks, a body that waits for leave, the old protocol, a range, HEAD, a keep-alive pair.
body='{"prompt": "chunks", "max_tokens": 3}'
printf '%s' "$body" | ask --header 'Content-Type: application/json' --header 'Transfer-Encoding: chunked' \
    --data-binary @- "$url/v1/completions" > /dev/null
ask --header 'Content-Type: application/json' --header 'Expect: 100-continue' --data "$body" \
    "$url/v1/completions" > /dev/null
ask --http1.0 "$url/v1/health/ready" > /dev/null
ask --range 0-9 "$url/v1/models" "$url/v1/models" > /dev/null
curl --silent --head --max-time 30 "$url/v1/models" > /dev/null
# Wrong ones: another method, a body that is too large, a client that gives up.
curl --silent --max-time 30 --request PUT --data x "$url/v1/models" > /dev/null
head -c 2000000 /dev/zero | curl --silent --max-time 30 --data-binary @- "$url/v1/completions" > /dev/null
curl --silent --max-time 0.2 --header 'Content-Type: application/json' \
    --data '{"prompt": "given up", "max_tokens": 500, "stream": true}' "$url/v1/completions" > /dev/null || true
complete 'and it still answers' | grep -q completion
