//! Where in a box's files one is, how one looks at them, and the addresses that lead there.
//!
//! To have one more way of looking, add a field to [`Asked`], and to [`Place::href`] for it to stay.

/// By what the list is sorted; directories come first always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    #[default]
    Name,
    Size,
    Time,
}

impl Sort {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Size => "size",
            Self::Time => "time",
        }
    }
}

/// What of a box's files is looked at, and how.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct Asked {
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) sort: Sort,
    /// The other way round.
    #[serde(default)]
    pub(super) reverse: bool,
    /// Names that begin with a dot, too.
    #[serde(default)]
    pub(super) hidden: bool,
    /// The first row of the piece.
    #[serde(default)]
    pub(super) from: usize,
    /// Where a directory goes on that has too many entries to be sorted at once.
    pub(super) cursor: Option<String>,
}

impl Asked {
    pub(super) fn at(path: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            ..Self::default()
        }
    }

    /// With one slash between names, and none at the end.
    pub(super) fn path(&self) -> String {
        let path = self.path.as_deref().unwrap_or("/");
        if !path.starts_with('/') {
            return path.to_owned();
        }
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        format!("/{}", names.join("/"))
    }
}

/// A part of the path, to go back to.
#[derive(Debug, Clone)]
pub struct Crumb {
    pub name: String,
    pub href: String,
}

/// Where we are in a box's files.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) base: String,
    pub(super) path: String,
    pub(super) asked: Asked,
}

impl Place {
    pub(super) fn new(id: &str, asked: Asked) -> Self {
        Self {
            base: format!("/containers/{id}/files"),
            path: asked.path(),
            asked,
        }
    }

    /// A path, looked at as `asked` says.
    pub(super) fn href(&self, path: &str, asked: &Asked) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("path", path);
        if asked.sort != Sort::Name {
            query.append_pair("sort", asked.sort.as_str());
        }
        for (name, on) in [("reverse", asked.reverse), ("hidden", asked.hidden)] {
            if on {
                query.append_pair(name, "true");
            }
        }
        if asked.from > 0 {
            query.append_pair("from", &asked.from.to_string());
        }
        if let Some(cursor) = &asked.cursor {
            query.append_pair("cursor", cursor);
        }
        format!("{}?{}", self.base, query.finish())
    }

    /// Another path, from its beginning, looked at in the same way.
    pub(super) fn href_at(&self, path: &str) -> String {
        let asked = Asked {
            from: 0,
            cursor: None,
            ..self.asked.clone()
        };
        self.href(path, &asked)
    }

    pub(super) fn crumbs(&self) -> Vec<Crumb> {
        let mut path = String::new();
        let names = self.path.split('/').filter(|name| !name.is_empty());
        names
            .map(|name| {
                path = format!("{path}/{name}");
                Crumb {
                    name: name.to_owned(),
                    href: self.href_at(&path),
                }
            })
            .collect()
    }
}

pub(super) fn download_href(place: &Place, path: &str, tar: bool) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("path", path);
    if tar {
        query.append_pair("tar", "true");
    }
    format!("{}/download?{}", place.base, query.finish())
}

/// A name in a directory; an absolute one is itself.
pub(super) fn join(dir: &str, name: &str) -> String {
    if name.starts_with('/') {
        name.to_owned()
    } else {
        format!("{}/{name}", dir.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_path_leads_somewhere() {
        let place = Place::new("x", Asked::at("//etc///a b/"));
        assert_eq!(place.path, "/etc/a b");
        let crumbs = place.crumbs();
        assert_eq!(crumbs[0].href, "/containers/x/files?path=%2Fetc");
        assert_eq!(crumbs[1].href, "/containers/x/files?path=%2Fetc%2Fa+b");
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "/b"), "/b");
    }
}
