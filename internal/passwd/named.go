package passwd

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/urfave/cli/v2"

	"rocserv/internal/getopt"
	"rocserv/internal/ocpasswd"
)

// flags are ocpasswd's, and one of ours.
var flags = []getopt.Flag{
	{Short: 'c', Long: "passwd", Value: true},
	{Short: 'g', Long: "groupname", Value: true},
	{Short: 'd', Long: "delete"},
	{Short: 'l', Long: "lock"},
	{Short: 'u', Long: "unlock"},
	{Short: 'v', Long: "version", Last: true},
	{Short: 'h', Long: "help", Last: true},
	{Long: "hash", Value: true},
}

const usage = `Usage:  ocpasswd [ -<flag> [<val>] | --<name>[{=| }<val>] ]... [username]

   -c, --passwd=file          password file (` + DefaultFile + `)
   -g, --groupname=str        the user's groups, separated by commas; * for none
   -d, --delete               delete the user
   -l, --lock                 lock the user
   -u, --unlock               unlock the user
       --hash=kind            sha256 or sha512 (not in ocserv's own)
   -v, --version              print the version
   -h, --help                 print this

With none of -d, -l and -u the password is asked for, twice, or read from
standard input where that is no terminal.
`

// Main is the program called ocpasswd: its command line, its streams (everything
// goes to standard error) and its exit codes.
func Main(args []string, version string, in io.Reader, errs io.Writer) int {
	line := getopt.Parse("ocpasswd", flags, args)
	for _, w := range line.Wrong {
		fmt.Fprintln(errs, w)
	}
	switch {
	case len(line.Wrong) > 0:
		return usageError(errs)
	case line.Count("version") > 0:
		fmt.Fprintf(errs, "ocpasswd - %s\n", version)
		return 0
	case line.Count("help") > 0:
		printUsage(errs)
		return 0
	}
	for _, f := range flags {
		switch {
		case line.Count(f.Long) < 2:
		case f.Value:
			fmt.Fprintf(errs, "-%c option cannot be specified multiple time\n", f.Short)
			return 1
		default:
			return usageError(errs)
		}
	}
	err := app(in, errs).Run(append([]string{"ocpasswd"}, line.Canonical()...))
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrUsage):
		return usageError(errs)
	}
	fmt.Fprintln(errs, inItsWords(err))
	return 1
}

// app is the command as a program of its own.
func app(in io.Reader, errs io.Writer) *cli.App {
	return &cli.App{
		Name: "ocpasswd", HideHelp: true, HideVersion: true, Flags: Command().Flags, Reader: in, Writer: errs, ErrWriter: errs,
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return ErrUsage
			}
			scheme, err := ocpasswd.ParseScheme(c.String("hash"))
			if err != nil {
				return err
			}
			o := Options{File: c.String("passwd"), User: c.Args().First(), Groups: c.String("groupname"), Scheme: scheme,
				Delete: c.Bool("delete"), Lock: c.Bool("lock"), Unlock: c.Bool("unlock")}
			switch {
			case o.Delete || o.Lock || o.Unlock:
				o.Groups = "" // ocpasswd takes them and does nothing with them
			case c.IsSet("groupname") && o.Groups == "":
				o.Groups = "*"
			}
			return Run(o, in, errs)
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return err },
	}
}

func printUsage(w io.Writer) {
	fmt.Fprintf(w, "ocpasswd - password files of OpenConnect servers\n%s", usage)
}

func usageError(w io.Writer) int {
	printUsage(w)
	return 1
}

// inItsWords says what is wrong as ocpasswd does, where scripts may look for it.
func inItsWords(err error) string {
	switch {
	case errors.Is(err, ErrNone):
		return "Please specify a password"
	case errors.Is(err, ErrMismatch):
		return "Passwords do not match"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "C" + err.Error()[1:] // cannot open 'FILE' for ...
	}
	return err.Error()
}
