package passwd

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"rocserv/internal/ocpasswd"
)

// Command is `rocserv passwd` for the wiring in cmd. Its errors are cli.Exit
// errors with status 1, usage errors after the help text, as ocpasswd exits.
func Command() *cli.Command {
	return &cli.Command{
		Name:      "passwd",
		Usage:     "add, change, lock, unlock or delete a user of a password file",
		ArgsUsage: "USER",
		Description: "The file is that of `auth = \"plain[passwd=FILE]\"`. A password is asked for twice on a\n" +
			"terminal, else one line of standard input is taken. Comments and lines of other users are kept.",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "passwd", Aliases: []string{"c"}, Value: DefaultFile, Usage: "password `FILE`"},
			&cli.StringFlag{Name: "groupname", Aliases: []string{"g"}, Usage: "the user's `GROUP,...`; * for none; not given: as before"},
			&cli.BoolFlag{Name: "delete", Aliases: []string{"d"}, Usage: "delete the user"},
			&cli.BoolFlag{Name: "lock", Aliases: []string{"l"}, Usage: "lock the user: no password fits until it is unlocked"},
			&cli.BoolFlag{Name: "unlock", Aliases: []string{"u"}, Usage: "unlock the user"},
			&cli.BoolFlag{Name: "totp", Usage: "give the user a token for one-time passwords and print it as a QR code; with -d, take it away"},
			&cli.StringFlag{Name: "otp-file", Usage: "`FILE` of tokens, as in plain[otp=FILE]; for --totp"},
			&cli.StringFlag{Name: "issuer", Value: "VPN", Usage: "`NAME` the authenticator application shows; for --totp"},
			&cli.StringFlag{Name: "hash", Value: string(ocpasswd.SHA256), Usage: "`KIND` of hash: sha256 or sha512"},
		},
		Action: action,
	}
}

func action(c *cli.Context) error {
	err := run(c)
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrUsage) {
		cli.HelpPrinter(c.App.ErrWriter, cli.CommandHelpTemplate, c.Command)
	}
	return cli.Exit("error: "+err.Error(), 1)
}

func run(c *cli.Context) error {
	if c.NArg() > 1 {
		return fmt.Errorf("%w: one user at a time, options before the name", ErrUsage)
	}
	if c.Bool("totp") {
		return tokens(c)
	}
	scheme, err := ocpasswd.ParseScheme(c.String("hash"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	return Run(Options{
		File: c.String("passwd"), User: c.Args().First(), Groups: c.String("groupname"), Scheme: scheme,
		Delete: c.Bool("delete"), Lock: c.Bool("lock"), Unlock: c.Bool("unlock"),
	}, c.App.Reader, c.App.ErrWriter)
}

// tokens is --totp.
func tokens(c *cli.Context) error {
	file, user := c.String("otp-file"), c.Args().First()
	switch {
	case file == "":
		return fmt.Errorf("%w: --totp needs --otp-file", ErrUsage)
	case user == "":
		return fmt.Errorf("%w: no user given", ErrUsage)
	case c.Bool("lock") || c.Bool("unlock") || c.String("groupname") != "":
		return fmt.Errorf("%w: --totp goes with --delete only", ErrUsage)
	case c.Bool("delete"):
		return Disenrol(file, user, c.App.ErrWriter)
	}
	return Enrol(file, user, c.String("issuer"), c.App.Writer)
}
