# Our rules in the INPUT chains of iptables: each accepts one source at one
# port and bears the comment transferpy:ID:EXPIRY. A rule is found by that
# comment and removed by what it says, never by its number. A removal takes a
# chain transferpy-..., which is empty, for a moment.
#   open TOOL TABLE ID EXPIRY DATE PORT,SOURCE...
#   remove ID PORT...
#   sweep
# For each pair, open prints the expiry of its rule, and "untimed" where the
# kernel does not see to it.
# What sweep removes it prints: ID PORT EXPIRY TOOL TABLE.
# shellcheck disable=SC2086 # the words of a rule are a list
set -u
set -f

has() { command -v "$1" >/dev/null 2>&1; }

# Prints the command of each kind of iptables that has something to show. To
# run iptables-legacy where its tables are not loaded would load them.
tools() {
	for program in iptables ip6tables; do
		case $("$program" -V 2>/dev/null) in
		*nf_tables*) plain=nft ;;
		*) plain=legacy ;;
		esac
		family=ip
		[ "$program" = ip6tables ] && family=ip6
		for kind in nft legacy; do
			if [ "$kind" = legacy ]; then
				[ -r "/proc/net/${family}_tables_names" ] || continue
				read -r loaded <"/proc/net/${family}_tables_names" || continue
			elif has nft; then # it may say that there is nothing; to fail says nothing
				loaded=$(nft list tables "$family") && [ -z "$loaded" ] && continue
			fi
			if has "$program-$kind"; then
				echo "$program-$kind"
			elif has "$program" && [ "$plain" = "$kind" ]; then
				echo "$program"
			fi
		done
	done
}

# ours TOOL: a line for each rule of ours,
#   TABLE ID EXPIRY PORT SOURCE first|behind WORDS...
# where the words are the rule as -I and -D take it, and "behind" says that a
# rule of somebody else stands before it.
ours() {
	saved=$("$1-save") || return
	printf '%s\n' "$saved" | awk '
		/^\*/ { table = substr($0, 2); place = "first" }
		/^-A INPUT / {
			if ($0 !~ /^-A INPUT -s [0-9a-f.:]+\/(32|128) -p tcp -m tcp --dport [0-9]+ (-m time [-A-Za-z0-9:,. ]*)?-m comment --comment "?transferpy:[A-Za-z0-9_-]+:[0-9]+"? -j ACCEPT$/) {
				place = "behind"
				next
			}
			gsub(/"/, "")
			for (i = 3; i < NF; i++) if ($i == "--comment") split($(i + 1), tag, ":")
			source = $4
			sub(/\/(32|128)$/, "", source)
			words = $3
			for (i = 4; i <= NF; i++) words = words " " $i
			print table, tag[2], tag[3], $10, source, place, words
		}'
}

# change TOOL TABLE ARGUMENTS...: one change of one rule. A lock that another
# program holds is waited for; where another has changed the rules between the
# tool's look and its change, it is done again. Exit code 1: no such rule.
change() {
	tool=$1 table=$2
	shift 2
	for try in 1 2 3 4 5; do
		said=$("$tool" -w 5 -t "$table" "$@" 2>&1)
		rc=$?
		case $rc,$said in
		0,*) return 0 ;;
		4,*lock* | 4,*"No such file"* | 4,*"temporarily unavailable"*) continue ;;
		esac
		break
	done
	return "$rc"
}

fail() {
	printf '%s\n' "$said" >&2
	exit "$rc"
}

# remove_rule TOOL TABLE WORDS...: gone already is well. Needs guard_of.
remove_rule() {
	tool=$1 table=$2
	shift 2
	case $("$tool" -V) in
	*nf_tables*) remove_guarded "$@" || fail ;;
	*) change "$tool" "$table" -D INPUT "$@" || [ "$rc" = 1 ] || fail ;;
	esac
}

# iptables-nft finds the handle of the rule that is meant, and sends it again
# where the rules have changed in between. But iptables-nft-restore makes the
# table anew, and there the handle is somebody else's rule. So an empty chain of
# ours goes in the same transaction: it is gone with the old table, to delete it
# fails, and with it all of the transaction.
remove_guarded() {
	for try in 1 2 3 4 5 6 7 8 9 10; do
		change "$tool" "$table" -N "$guard" # or it is left from a removal that was killed
		said=$(printf '*%s\n-D INPUT %s\n-X %s\nCOMMIT\n' "$table" "$*" "$guard" | "$tool-restore" --noflush 2>&1) && return
		"$tool" -w 5 -t "$table" -C INPUT "$@" 2>/dev/null
		rc=$?
		[ "$rc" != 1 ] || break # there is no such rule any more
	done
	"$tool" -w 5 -t "$table" -X "$guard" 2>/dev/null
	[ "$rc" = 1 ]
}

# guard_of ID: the chain that guards removals of this transfer. iptables takes
# 28 bytes for a name; the end of the id is what tells transfers apart.
guard_of() {
	guard=$1
	while [ "${#guard}" -gt 17 ]; do guard=${guard#?}; done
	guard=transferpy-$guard
}

# remove_guards PATTERN: those that a removal has left which was killed.
remove_guards() {
	for tool in $(tools); do
		"$tool-save" | awk -v p="^:$1\$" '
			/^\*/ { table = substr($0, 2) }
			$1 ~ p && $2 == "-" { print table, substr($1, 2) }' |
			while read -r table guard; do
				"$tool" -w 5 -t "$table" -X "$guard" 2>/dev/null # one that is in use stays
			done
	done
	return 0
}

open() {
	tool=$1 table=$2 id=$3 expiry=$4 date=$5
	shift 5
	guard_of "$id"
	here=$(ours "$tool") || exit
	for pair; do
		port=${pair%%,*} source=${pair#*,}
		mine=$(printf '%s\n' "$here" | awk -v t="$table" -v i="$id" -v p="$port" -v s="$source" \
			'$1 == t && $2 == i && $4 == p && $5 == s' | sort -k 3,3nr)
		lasts=$expiry untimed=
		read -r _ _ last _ _ place words <<-END
			$mine
		END
		if [ "${last:-0}" -lt "$expiry" ]; then
			insert "$port" "$source"
		else
			lasts=$last
			[ "$place" = first ] || to_the_front $words
			case $words in
			*" -m time "*) ;;
			*) untimed=untimed ;;
			esac
		fi
		printf '%s\n' "$mine" | while read -r _ _ last _ _ place words; do
			[ "${last:-$lasts}" = "$lasts" ] || remove_rule "$tool" "$table" $words
		done || exit
		echo "$lasts $untimed"
	done
}

# to_the_front WORDS...: a rule that others stand before. Of equal rules the
# first is what -D removes, so it goes before it comes.
to_the_front() {
	remove_rule "$tool" "$table" "$@"
	change "$tool" "$table" -I INPUT 1 "$@" || fail
}

# insert PORT SOURCE: in front of all. A kernel without xt_time takes the rule
# without its end.
insert() {
	set -- -I INPUT 1 -s "$2" -p tcp --dport "$1"
	change "$tool" "$table" "$@" -m time --datestop "$date" -m comment --comment "transferpy:$id:$expiry" -j ACCEPT && return
	timed=$said
	if ! change "$tool" "$table" "$@" -m comment --comment "transferpy:$id:$expiry" -j ACCEPT; then
		printf '%s\n' "$timed" >&2
		fail
	fi
	untimed=untimed
}

# each_of_ours CALL...: calls it with each of our rules, of all tools.
each_of_ours() {
	for tool in $(tools); do
		here=$(ours "$tool") || exit
		[ -n "$here" ] || continue
		printf '%s\n' "$here" | while read -r table owner last port source place words; do
			"$@" || exit
		done || exit
	done
}

remove() {
	id=$1
	shift
	ports=$*
	guard_of "$id"
	each_of_ours remove_one
	remove_guards "$guard"
}

remove_one() {
	[ "$owner" = "$id" ] || return 0
	case " $ports " in
	*" $port "*) remove_rule "$tool" "$table" $words ;;
	esac
}

sweep() {
	each_of_ours sweep_one
	remove_guards 'transferpy-[A-Za-z0-9_-]+'
}

sweep_one() {
	over "$owner" "$last" || return 0
	guard_of "$owner"
	remove_rule "$tool" "$table" $words
	echo "$owner $port $last $tool $table"
}

"$@"
