# abandoned ID: the directory of the transfer's agents is there, and none of
# the agents lives. Without flock, or without the directory, nobody can say.
abandoned() {
	set +f
	[ -d "/var/lib/transferpy/run/$1" ] || return 1
	for lock in "/var/lib/transferpy/run/$1"/*/lock; do
		[ -e "$lock" ] || continue
		flock -n -s "$lock" true 2>/dev/null || return 1
	done
}

# over ID EXPIRY: a rule with this tag is past its time by this host's clock,
# or nobody is there any more who would take it back.
over() { [ "$2" -lt "$(date +%s)" ] || (abandoned "$1"); }
