# Takes away what transfers have opened in native tables: a chain of its own
# for each port, named transferpy-ID-PORT, and the rules that jump there.
#   remove ID PORT...
#   sweep
# What sweep removes it prints: ID PORT EXPIRY nft FAMILY TABLE.
set -u
set -f

# ours: a line for each chain of ours and each jump to one,
#   chain FAMILY TABLE NAME ID PORT EXPIRY     0: it has no rule
#   jump FAMILY TABLE CHAIN HANDLE NAME
# What stands in quotes is somebody's text and never read as a rule.
ours() {
	all=$(nft -a -t list ruleset 2>/dev/null || nft -a list ruleset) || return
	printf '%s\n' "$all" | awk '
		function ours(name) { return name ~ /^transferpy-[A-Za-z0-9][A-Za-z0-9_-]*-[0-9]+$/ }
		function tell(   id, port) {
			if (mine == "") return
			id = mine; sub(/^transferpy-/, "", id); sub(/-[0-9]+$/, "", id)
			port = mine; sub(/.*-/, "", port)
			print "chain", family, table, mine, id, port, expiry
			mine = ""
		}
		/^[^\t]/ { tell(); family = $2; table = $3; chain = ""; next }
		/^\tchain / {
			tell()
			chain = $2
			if (ours(chain)) { mine = chain; expiry = "0" }
			next
		}
		/^\t\t.* # handle [0-9]+$/ {
			if (mine != "") {
				if (match($0, /comment "transferpy:[A-Za-z0-9_-]+:[0-9]+" # handle [0-9]+$/)) {
					split(substr($0, RSTART), tag, /[:"]/)
					if (tag[4] + 0 > expiry + 0) expiry = tag[4]
				}
				next
			}
			handle = $NF
			gsub(/"[^"]*"/, "")
			for (i = 1; i < NF; i++)
				if (($i == "jump" || $i == "goto") && ours($(i + 1))) print "jump", family, table, chain, handle, $(i + 1)
		}
		END { tell() }'
}

# remove_chains NAME...: in all tables, in one transaction. A handle means
# another rule once a table was made anew; but then our chain is gone with the
# old table, to delete it fails, and with it all of the transaction.
remove_chains() {
	for try in 1 2 3 4 5; do
		here=$(ours) || return
		batch=$(printf '%s\n' "$here" | awk -v names="$*" '
			BEGIN { n = split(names, list, " "); for (i = 1; i <= n; i++) wanted[list[i]] = 1 }
			$1 == "jump" && ($6 in wanted) { print "delete rule", $2, $3, $4, "handle", $5 }
			$1 == "chain" && ($4 in wanted) { last = last "flush chain " $2 " " $3 " " $4 "\ndelete chain " $2 " " $3 " " $4 "\n" }
			END { printf "%s", last }')
		[ -n "$batch" ] || return 0
		said=$(printf '%s\n' "$batch" | nft -f - 2>&1) && return 0
	done
	printf '%s\n' "$said" >&2
	return 1
}

remove() {
	id=$1
	shift
	names=
	for port; do
		names="$names transferpy-$id-$port"
	done
	# shellcheck disable=SC2086 # names are a list
	remove_chains $names
}

sweep() {
	command -v nft >/dev/null 2>&1 || return 0 # so there is nothing of ours
	here=$(ours) || exit
	printf '%s\n' "$here" | while read -r what family table name id port expiry; do
		[ "$what" = chain ] || continue
		over "$id" "$expiry" || continue
		remove_chains "$name" || exit
		echo "$id $port $expiry nft $family $table"
	done
}

"$@"
