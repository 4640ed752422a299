//! How arguments are written: each distinct value is one flat object, the arguments by their names beside the rest.
//!
//! `{ "request": "0xc030462b", "calls": 220, "runs": 1, "kind": "character device", "device": "195:255", … }`

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::{JsonSchema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Visitor},
    ser::SerializeMap,
};

use crate::{Arguments, File, FileKind, FirstSight, Kept, PhaseName, Values, hex};

/// What stands in the file for [`Arguments`].
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Arguments")]
pub(crate) struct Written {
    /// Which arguments were kept, ordered by index and offset. Of several runs: those that all of them kept.
    kept: Vec<Kept>,
    /// There were more distinct values than are kept: `values` are not all.
    wide: bool,
    /// Entered calls whose values are not among `values`.
    #[serde(default, skip_serializing_if = "is_default")]
    beyond: u64,
    /// Entered calls whose struct could not be read (`EFAULT`): what stood in it is not known.
    #[serde(default, skip_serializing_if = "is_default")]
    unread: u64,
    /// Runs were merged that kept different arguments, so that it is not known in how many of them a value was
    /// seen: the `runs` of each value are those of the row.
    #[serde(default, skip_serializing_if = "is_default")]
    narrowed: bool,
    /// The distinct values, ordered; each has every kept argument, by its name.
    values: Vec<Line>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// One of the values: what is in [`Values`], with the arguments' names.
struct Line {
    arguments: Vec<(String, u64)>,
    rest: Rest,
}

/// What stands beside the arguments. Its keys are no names for arguments.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rest {
    /// How often the call was entered with these values.
    calls: u64,
    /// How often a filter answered it.
    #[serde(default, skip_serializing_if = "is_default")]
    denied: u64,
    /// In how many runs they were seen.
    runs: u64,
    /// The arguments, of those that the kernel reads as 32 bits, whose upper half was not zero.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    upper: BTreeSet<String>,
    /// The kind of file that the call's descriptor was, for calls of which that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<FileKind>,
    /// Major and minor number of a device, `195:255`. Of several runs: where they agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Where the file is: of devices, and of files without a place (`[eventpoll]`); never of a regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The phases in which they were seen.
    phases: BTreeSet<PhaseName>,
    /// Who made such a call first. Of several runs: the smallest.
    first: FirstSight,
}

/// The keys of [`Rest`].
pub(crate) const RESERVED: [&str; 9] =
    ["calls", "denied", "runs", "upper", "kind", "device", "path", "phases", "first"];

impl From<Arguments> for Written {
    fn from(arguments: Arguments) -> Self {
        let Arguments { kept, wide, beyond, unread, narrowed, values } = arguments;
        let line = |values: Values| {
            let names = kept.iter().map(|kept| kept.name.clone());
            let (kind, device, path) = values
                .file
                .map_or((None, None, None), |File { kind, device, path }| (Some(kind), device, path));
            Line {
                arguments: names.zip(values.arguments).collect(),
                rest: Rest {
                    calls: values.calls,
                    denied: values.denied,
                    runs: values.runs,
                    upper: values.upper,
                    kind,
                    device,
                    path,
                    phases: values.phases,
                    first: values.first,
                },
            }
        };
        let values = values.into_iter().map(line).collect();
        Self { kept, wide, beyond, unread, narrowed, values }
    }
}

impl TryFrom<Written> for Arguments {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { kept, wide, beyond, unread, narrowed, values } = written;
        let values = values.into_iter().map(|line| line.read(&kept)).collect::<Result<_, _>>()?;
        Ok(Self { kept, wide, beyond, unread, narrowed, values })
    }
}

impl Line {
    /// The values in the order of what was kept: each of them, and nothing else.
    fn read(self, kept: &[Kept]) -> Result<Values, String> {
        let Self { arguments, rest } = self;
        let mut named: BTreeMap<String, u64> = arguments.into_iter().collect();
        let values = kept.iter().map(|Kept { name, .. }| {
            named.remove(name).ok_or_else(|| format!("argument `{name}` is kept, but values are without it"))
        });
        let arguments = values.collect::<Result<_, _>>()?;
        if let Some(name) = named.keys().next() {
            return Err(format!("unknown field `{name}`: no argument of that name is kept"));
        }
        let file = match (rest.kind, rest.device, rest.path) {
            (Some(kind), device, path) => Some(File { kind, device, path }),
            (None, None, None) => None,
            (None, ..) => return Err("values name a device or a path, but no `kind`".to_owned()),
        };
        let Rest { calls, denied, runs, upper, phases, first, .. } = rest;
        Ok(Values { arguments, calls, denied, runs, upper, file, phases, first })
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// The arguments, then the rest's own fields.
        #[derive(Serialize)]
        struct Flat<'a> {
            #[serde(flatten, serialize_with = "arguments")]
            arguments: &'a [(String, u64)],
            #[serde(flatten)]
            rest: &'a Rest,
        }
        fn arguments<S: Serializer>(arguments: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(arguments.len()))?;
            arguments.iter().try_for_each(|(name, value)| map.serialize_entry(name, &hex::text(*value)))?;
            map.end()
        }
        Flat { arguments: &self.arguments, rest: &self.rest }.serialize(serializer)
    }
}

/// [`Rest`] while it is read.
#[derive(Default)]
struct Read {
    calls: Option<u64>,
    denied: u64,
    runs: Option<u64>,
    upper: BTreeSet<String>,
    kind: Option<FileKind>,
    device: Option<String>,
    path: Option<String>,
    phases: Option<BTreeSet<PhaseName>>,
    first: Option<FirstSight>,
}

impl Read {
    fn whole<E: Error>(self) -> Result<Rest, E> {
        let Self { denied, upper, kind, device, path, .. } = self;
        Ok(Rest {
            calls: self.calls.ok_or_else(|| E::missing_field("calls"))?,
            denied,
            runs: self.runs.ok_or_else(|| E::missing_field("runs"))?,
            upper,
            kind,
            device,
            path,
            phases: self.phases.ok_or_else(|| E::missing_field("phases"))?,
            first: self.first.ok_or_else(|| E::missing_field("first"))?,
        })
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Flat;

        impl<'de> Visitor<'de> for Flat {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("values of arguments")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Line, A::Error> {
                let mut keys = BTreeSet::new();
                let mut arguments = Vec::new();
                let mut rest = Read::default();
                while let Some(key) = access.next_key::<String>()? {
                    if !keys.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("duplicate key `{key}`")));
                    }
                    match key.as_str() {
                        "calls" => rest.calls = Some(access.next_value()?),
                        "denied" => rest.denied = access.next_value()?,
                        "runs" => rest.runs = Some(access.next_value()?),
                        "upper" => rest.upper = access.next_value()?,
                        "kind" => rest.kind = Some(access.next_value()?),
                        "device" => rest.device = Some(access.next_value()?),
                        "path" => rest.path = Some(access.next_value()?),
                        "phases" => rest.phases = Some(access.next_value()?),
                        "first" => rest.first = Some(access.next_value()?),
                        _ => {
                            let text = access.next_value::<String>()?;
                            arguments.push((key, hex::number(&text).map_err(A::Error::custom)?));
                        }
                    }
                }
                Ok(Line { arguments, rest: rest.whole()? })
            }
        }

        deserializer.deserialize_map(Flat)
    }
}

impl JsonSchema for Line {
    fn schema_name() -> Cow<'static, str> {
        "Values".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> schemars::Schema {
        let mut schema = Rest::json_schema(generator);
        let argument = generator.subschema_for::<hex::Text>();
        schema.insert("additionalProperties".to_owned(), argument.to_value());
        let description = "Values that arguments had together; each argument by its name, beside the rest";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}
