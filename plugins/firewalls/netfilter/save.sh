# Prints the rules of one family as iptables-save does, and before them, in a
# line of its own, the command that changes them. Reads and changes nothing.
#   $1  iptables or ip6tables
#   $2  nft or legacy
#   $3  ip or ip6
# Exit code 127: there is no such program, or nothing for it to show; 3: there
# is something to show, and no program to do it.
program=$1 kind=$2 family=$3

has() { command -v "$1" >/dev/null 2>&1; }

# Which of the two an unmarked program is, its version tells.
backend() {
	case $("$program" -V 2>/dev/null) in
	*nf_tables*) echo nft ;;
	*) echo legacy ;;
	esac
}

if [ "$kind" = legacy ]; then
	# To run iptables-legacy where its tables are not loaded would load them.
	names=/proc/net/${family}_tables_names
	[ -e "$names" ] || exit 127
	if ! [ -r "$names" ]; then
		echo "$names: Permission denied" >&2
		exit 1
	fi
	read -r loaded <"$names" || exit 127
fi

if has "$program-$kind" && has "$program-$kind-save"; then
	tool=$program-$kind
elif has "$program" && has "$program-save" && [ "$(backend)" = "$kind" ]; then
	tool=$program
elif [ "$kind" = legacy ]; then
	exit 3
else
	exit 127
fi
echo "$tool"

# Old versions of iptables-nft make the chains that they are asked to show.
if [ "$kind" = nft ] && has nft; then
	tables=$(nft list tables "$family") || exit 1
	[ -n "$tables" ] || exit 0
fi
exec "$tool-save"
