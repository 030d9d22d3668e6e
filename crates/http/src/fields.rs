//! The fields of a head, looked for by name.

use httparse::Header;

/// The fields of a head, in their order. Names are compared without regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(pub(crate) &'a [Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of all fields of this name, without the space around them.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    }

    /// The value of the only field of this name. None if there is none, or more than one.
    pub fn only(self, name: &str) -> Option<&'a [u8]> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }

    /// The members of a list (RFC 9110, section 5.6.1), over all fields of this name, without those that are empty. For
    /// lists whose members are tokens or have parameters; a comma within quotes divides like any other.
    pub fn list(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let members = self.all(name).flat_map(|value| value.split(|&byte| byte == b','));
        members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    }

    /// Whether a list has this word, without regard to case.
    pub fn says(self, name: &str, word: &str) -> bool {
        self.list(name).any(|member| member.eq_ignore_ascii_case(word.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(all: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
        all.iter().map(|&(name, value)| Header { name, value: value.as_bytes() }).collect()
    }

    #[test]
    fn a_list_goes_over_all_fields_of_its_name_and_has_no_empty_members() {
        let all = fields(&[("A", " x ,, Y;q=1\t"), ("b", "z"), ("a", ""), ("a", "w")]);
        let all = Fields(&all);
        assert_eq!(all.list("a").collect::<Vec<_>>(), [&b"x"[..], b"Y;q=1", b"w"]);
        assert!(all.says("a", "W") && all.says("B", "Z") && !all.says("a", "y") && !all.says("c", ""));
    }

    #[test]
    fn what_is_said_twice_is_not_said_once() {
        let all = fields(&[("a", "1"), ("b", " 2 "), ("A", "1")]);
        let only = |name| Fields(&all).only(name);
        assert_eq!((only("a"), only("B"), only("c")), (None, Some(&b"2"[..]), None));
    }
}
