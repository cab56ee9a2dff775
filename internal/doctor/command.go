package doctor

import (
	"os"

	"github.com/urfave/cli/v2"

	"rocserv/internal/config"
)

// Command is `rocserv doctor` for the wiring in cmd.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what this host gives, how many clients fit, and what would close each gap",
		Description: "Run it as the server's user, in the server's container. It sends nothing and changes\n" +
			"nothing. Exit status 1: something keeps the server, or the configuration, from working.",
		HideHelpCommand: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "judge this configuration `FILE` too"},
			&cli.BoolFlag{Name: "json", Usage: "for programs"},
		},
		Action: action,
	}
}

func action(c *cli.Context) error {
	if c.NArg() > 0 {
		return cli.Exit("error: doctor takes options only", 1)
	}
	var cfg *config.Config
	if name := c.String("config"); name != "" {
		b, err := os.ReadFile(name)
		if err == nil {
			cfg, err = config.Parse(name, b, config.Main)
		}
		if err != nil {
			return cli.Exit("error: "+err.Error(), 1)
		}
	}
	r := Judge(Look(cfg), cfg)
	if c.Bool("json") {
		if err := r.JSON(c.App.Writer); err != nil {
			return cli.Exit("error: "+err.Error(), 1)
		}
	} else {
		r.Text(c.App.Writer)
	}
	if r.Bad() {
		return cli.Exit("", 1)
	}
	return nil
}
