//! Where an element is: the steps to it, each a link to the one before, so that a path is only written for what is wrong.

/// The way to an element from the resource that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    above: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// An element, or at first the type of the resource.
    Name(&'a str),
    /// A position in a list.
    Index(usize),
}

impl<'a> Place<'a> {
    /// The resource itself, by its type.
    pub const fn root(kind: &'a str) -> Self {
        Self {
            above: None,
            step: Step::Name(kind),
        }
    }

    /// An element of what is here.
    pub const fn element(&'a self, name: &'a str) -> Self {
        Self {
            above: Some(self),
            step: Step::Name(name),
        }
    }

    /// One of the list that is here.
    pub const fn index(&'a self, at: usize) -> Self {
        Self {
            above: Some(self),
            step: Step::Index(at),
        }
    }

    /// Whether it is the resource itself.
    pub const fn is_root(&self) -> bool {
        self.above.is_none()
    }

    /// Whether it is one of the list of an element of that name.
    pub fn is_one_of(&self, name: &str) -> bool {
        let list = matches!(self.step, Step::Index(_)).then_some(self.above);
        let above = list.flatten().map(|above| above.step);
        matches!(above, Some(Step::Name(known)) if known == name)
    }

    /// FHIRPath of it, such as `Observation.component[0].value`.
    pub fn path(&self) -> String {
        let mut steps = vec![self.step];
        let mut above = self.above;
        while let Some(place) = above {
            steps.push(place.step);
            above = place.above;
        }
        let mut path = String::new();
        for step in steps.iter().rev() {
            match step {
                Step::Name(name) if path.is_empty() => path.push_str(name),
                Step::Name(name) => path.extend([".", *name]),
                Step::Index(at) => path.push_str(&format!("[{at}]")),
            }
        }
        path
    }
}
