package quickstart

import "github.com/urfave/cli/v2"

// Command is `rocserv quickstart` for the wiring in cmd. run starts the child
// that calls MakeState with the options, and then the server with the
// configuration that Paths names.
func Command(run func(*cli.Context, Options) error) *cli.Command {
	return &cli.Command{
		Name:  "quickstart",
		Usage: "make a server's configuration, certificate and first user, and start it",
		Description: "All of it is made once and kept: the next start goes on with the same. Nothing needs root.\n" +
			"The line to type on a client is printed, with the password at the first start.",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "`ADDR:PORT` to listen on, TCP and UDP; :PORT for every address (default: :8443, later what the configuration says)"},
			&cli.StringFlag{Name: "state-dir", Usage: "`DIR` for the state (default: $XDG_STATE_HOME/rocserv, or ~/.local/state/rocserv)"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return cli.Exit("error: no additional command line options are allowed", 1)
			}
			return run(c, Options{Listen: c.String("listen"), StateDir: c.String("state-dir")})
		},
	}
}
