//! One address or several of what is reached: `url = "https://a:1"`, or a list of them.
use super::{Problem, url};
use serde::{Deserialize, Serialize};

/// Addresses of one node above: no region has more nodes.
pub const MAX_URLS: usize = 4;

/// Addresses, `https://host:port` each, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Urls {
    /// One.
    One(String),
    /// Those of a region of more than one node.
    Several(Vec<String>),
}

impl Urls {
    /// Each of them.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        match self {
            Self::One(url) => vec![url.clone()],
            Self::Several(urls) => urls.clone(),
        }
    }

    /// What is wrong with them: none, too many, one twice, or one that is no address.
    #[must_use]
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let urls = match self {
            Self::One(one) => return url(key, one).into_iter().collect(),
            Self::Several(urls) => urls,
        };
        let mut problems = Vec::new();
        if urls.is_empty() || urls.len() > MAX_URLS {
            let says = format!("names {} addresses; 1 to {MAX_URLS} are tried", urls.len());
            problems.push(Problem::new(key, says));
        }
        for (index, one) in urls.iter().enumerate() {
            let key = format!("{key}[{index}]");
            if urls.iter().take(index).any(|before| before == one) {
                problems.push(Problem::new(key, "is named before"));
            } else {
                problems.extend(url(&key, one));
            }
        }
        problems
    }
}

impl From<String> for Urls {
    fn from(url: String) -> Self {
        Self::One(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Serialize)]
    struct Holder {
        url: Urls,
    }

    fn read(text: &str) -> Urls {
        toml::from_str::<Holder>(text).unwrap().url
    }

    #[test]
    fn one_address_or_a_list_is_read_and_written_as_it_was() {
        for text in [
            "url = \"https://a:1\"\n",
            "url = [\"https://a:1\", \"https://b:2\"]\n",
        ] {
            let url = read(text);
            assert_eq!(toml::to_string(&Holder { url }).unwrap(), text);
        }
        let both = read("url = [\"https://a:1\", \"https://b:2\"]");
        assert_eq!(both.all(), ["https://a:1", "https://b:2"]);
    }

    #[test]
    fn a_list_that_names_none_too_many_one_twice_or_no_address_is_refused() {
        let keys = |urls: &[&str]| {
            let urls = urls.iter().map(|url| (*url).to_owned()).collect();
            let problems = Urls::Several(urls).problems("u").into_iter();
            problems.map(|it| it.path).collect::<Vec<_>>()
        };
        assert!(keys(&["https://a:1", "https://b:2"]).is_empty());
        assert_eq!(keys(&[]), ["u"]);
        assert_eq!(keys(&["https://a:1", "https://a:1", "b"]), ["u[1]", "u[2]"]);
        let five = [
            "https://a:1",
            "https://a:2",
            "https://a:3",
            "https://a:4",
            "https://a:5",
        ];
        assert_eq!(keys(&five), ["u"]);
        assert_eq!(Urls::from("a".to_owned()).problems("u").len(), 1);
    }
}
