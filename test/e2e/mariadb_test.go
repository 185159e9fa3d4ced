package e2e

import (
	"context"
	"fmt"
)

// startMariaDB starts a real MariaDB on a host. A data directory that is not
// there is made; one that is there belongs to the server from then on.
const startMariaDB = `dir=$1 id=$2
mkdir -p /run/mysqld && chown mysql: /run/mysqld
if [ -d "$dir" ]; then chown -R mysql: "$dir"; else
mariadb-install-db --no-defaults --user=mysql --datadir="$dir" --auth-root-authentication-method=socket --skip-test-db >/var/log/install.log 2>&1 || { cat /var/log/install.log; exit 1; }
fi
setsid mariadbd --no-defaults --user=mysql --datadir="$dir" --socket=/run/mysqld/mysqld.sock --pid-file=/run/mysqld/mysqld.pid \
--bind-address=0.0.0.0 --server-id="$id" --log-bin=log-bin --innodb-log-file-size=4M --innodb-buffer-pool-size=8M --log-error=/var/log/mysqld.log </dev/null >/dev/null 2>&1 &
for i in $(seq 600); do mariadb -e 'select 1' >/dev/null 2>&1 && exit 0; sleep 0.1; done
cat /var/log/mysqld.log; exit 1`

// mariadb starts a MariaDB on a host, at its usual socket.
func (s *script) mariadb(_ bool, args []string) {
	s.args("mariadb HOST DATADIR ID", args, 3, 3)
	ctx, cancel := context.WithTimeout(s.tb.Context(), patience)
	defer cancel()
	out, err := s.Run(ctx, args[0], "sh", "-c", startMariaDB, "sh", args[1], args[2])
	if err != nil {
		fmt.Fprint(s.ts.Stderr(), out)
		s.ts.Fatalf("mariadb on %s: %v", args[0], err)
	}
}
