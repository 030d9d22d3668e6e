//! What the command line asks for.

use roadstead::Model;

pub(crate) const HELP: &str = "\
A key-value service that speaks RESP2, the protocol of Redis.

Usage: resp [--bind ADDR] [--model NAME]

  --bind ADDR   where it listens [default: 127.0.0.1:6380]
  --model NAME  the I/O model: see `roadstead models`
                [default: the best of this machine]
";

#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    Help,
    Serve { bind: String, model: Model },
}

impl Asked {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut bind, mut model) = (String::from("127.0.0.1:6380"), Model::best());
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("`{name}` needs a value"));
            match name.as_str() {
                "-h" | "--help" => return Ok(Self::Help),
                "--bind" => bind = value()?,
                "--model" => model = value()?.parse::<Model>().map_err(|error| error.to_string())?,
                _ => return Err(format!("there is no `{name}`; there are --bind ADDR and --model NAME")),
            }
        }
        Ok(Self::Serve { bind, model })
    }
}
