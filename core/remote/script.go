package remote

// findScript finds the agent on a host and becomes it, with the verb probe
// and the standard input as it is. It is the same for all hosts:
//
//	sh -c findScript transferpy [dir=DIR ...] ARCH=DIGEST ...
//
// Where it cannot become the agent it prints one line instead: a word,
// architecture, uid and a directory. The word is missing (the agent is to be
// placed in that directory, which was made), arch (there is none for this
// machine), tool (sha256sum is not installed) or nowhere (no directory will
// do). A directory counts only if it is this user's and closed to all
// others, since whoever can write there decides what runs as this user. That
// a file may be executed there is tried, not read from the mount options.
const findScript = `set -f; umask 077; PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
say() { printf 'transferpy-agent 1 %s %s %s %s\n' "$1" "$arch" "$uid" "$2"; exit 0; }
uid=$(id -u)
arch=$(uname -m)
case $arch in
x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; i?86) arch=386 ;; armv*) arch=arm ;; loongarch64) arch=loong64 ;;
esac
command -v sha256sum >/dev/null || say tool sha256sum
want=
for a; do
	case $a in dir=*) ;; "$arch"=*) want=${a#*=} ;; esac
done
[ -n "$want" ] || say arch -
own() {
	set -- "$(ls -ldn "$1" 2>/dev/null)"
	set -- $1
	case $1 in drwx------*) [ "$3" = "$uid" ] ;; *) false ;; esac
}
become() {
	[ -f "$1" ] && [ -x "$1" ] || return 1
	sum=$(sha256sum <"$1")
	[ "${sum%% *}" = "$want" ] && exec "$1" probe
}
look() {
	own "$1" && become "$1/transferpy-agent-$want"
}
make() {
	case $1 in *[![:print:]]*) return 1 ;; esac
	mkdir -p "$1" 2>/dev/null
	own "$1" || return 1
	t=$1/.try-$$
	printf '#!/bin/sh\n' >"$t" && chmod 700 "$t" && "$t" </dev/null 2>/dev/null
	rc=$?
	rm -f "$t"
	[ $rc = 0 ] && say missing "$1"
}
each() {
	do=$1; shift
	for a; do case $a in dir=*) "$do" "${a#dir=}" ;; esac; done
	[ "$uid" = 0 ] && "$do" /var/lib/transferpy/agents
	cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
	case $cache in /*) "$do" "$cache/transferpy/agents" ;; esac
	mine=/var/tmp/transferpy-$uid
	if [ "$do" = make ]; then mkdir "$mine" 2>/dev/null; fi
	own "$mine" && "$do" "$mine/agents"
}
each look "$@"
become "/usr/lib/transferpy/agent/transferpy-agent-linux-$arch"
each make "$@"
say nowhere -
`

// placeScript unpacks an agent that was put beside its place, checks it, gives
// it its name by a rename and becomes it, as findScript does:
//
//	sh -c placeScript transferpy DIR DIGEST FILE
//
// Two that place the same agent at once each rename their own file. What a
// placer that was killed has left is removed an hour later.
const placeScript = `umask 077; PATH=$PATH:/usr/bin:/bin
cd "$1" || exit 1
gzip -dc <"$3" >"$3.new" && sum=$(sha256sum <"$3.new") && [ "${sum%% *}" = "$2" ] &&
	chmod 500 "$3.new" && mv -f "$3.new" "transferpy-agent-$2"
rc=$?
rm -f "$3" "$3.new"
[ $rc = 0 ] || { echo "what arrived in $1 is not the agent that was sent, or it could not be unpacked there" >&2; exit 1; }
find . -maxdepth 1 -name '.in-*' -mmin +60 -exec rm -f {} + 2>/dev/null
exec "$1/transferpy-agent-$2" probe
`

// appendScript writes the next piece of a file, for an executor that cannot
// put files:
//
//	sh -c appendScript transferpy FILE OFFSET MODE
//
// The first piece creates the file and fails (exit code 17) where there is
// one; a later one fails unless it begins where the file ends. The subshell is
// there because a failed redirection of ":" ends the shell.
const appendScript = `umask 077
if [ "$2" = 0 ]; then
	set -C
	if ! (: >"$1"); then [ -e "$1" ] && exit 17; exit 1; fi
	set +C
	chmod "$3" "$1" || exit 1
fi
[ "$(wc -c <"$1")" -eq "$2" ] || { echo "$1 does not end at $2" >&2; exit 1; }
cat >>"$1" || { rc=$?; rm -f "$1"; exit $rc; }
`
