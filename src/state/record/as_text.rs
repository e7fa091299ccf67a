//! How nouns of the network stand in a record: as the text a person writes. For `#[serde(with = …)]`.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::net::Route;

pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

pub(super) mod option {
    use super::{Deserialize, Deserializer, Display, Error, FromStr, Serialize, Serializer};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ToString::to_string).serialize(to)
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

pub(super) mod list {
    use super::{Deserialize, Deserializer, Display, Error, FromStr, Serializer};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let texts: Vec<String> = Vec::deserialize(from)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

pub(super) mod routes {
    use super::{Deserialize, Deserializer, IpAddr, IpNetwork, Route, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(remote = "Route")]
    struct Written {
        #[serde(with = "super")]
        dst: IpNetwork,
        #[serde(default)]
        gw: Option<IpAddr>,
        #[serde(default)]
        mtu: Option<u32>,
        #[serde(default)]
        advmss: Option<u32>,
        #[serde(default)]
        priority: Option<u32>,
        #[serde(default)]
        table: Option<u32>,
        #[serde(default)]
        scope: Option<u8>,
    }

    #[derive(Serialize)]
    struct Borrowed<'a>(#[serde(with = "Written")] &'a Route);

    #[derive(Deserialize)]
    struct Owned(#[serde(with = "Written")] Route);

    pub(in super::super) fn serialize<S: Serializer>(routes: &[Route], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(routes.iter().map(Borrowed))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Route>, D::Error> {
        let routes: Vec<Owned> = Vec::deserialize(from)?;
        Ok(routes.into_iter().map(|Owned(route)| route).collect())
    }
}
