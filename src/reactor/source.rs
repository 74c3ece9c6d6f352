//! What a poll token stands for.

use mio::Token;

use crate::pool::SlotId;
use crate::request::GenerationId;

/// A worker, by its generation and its slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Member {
    pub generation: GenerationId,
    pub slot: SlotId,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Signals,
    Listener(usize),
    Client(usize),
    Link(Member),
    Process(Member),
    TemplateLink(GenerationId),
    TemplateProcess(GenerationId),
    /// The output of the compiler that a reload waits for.
    Compiler,
    Control(usize),
    AdminListener(usize),
    /// A connection to it.
    Admin(usize),
    /// The link to the supervisor that takes over, or its process.
    SuccessorLink,
    SuccessorProcess,
    /// The link to the supervisor that this one takes over from.
    Predecessor,
}

const KIND_BITS: u32 = 4;
const GENERATION_BITS: u32 = 24;

impl Source {
    pub fn token(self) -> Token {
        let none = GenerationId(0);
        let (kind, generation, index) = match self {
            Source::Signals => (0, none, 0),
            Source::Listener(index) => (1, none, index),
            Source::Client(index) => (2, none, index),
            Source::Link(Member { generation, slot }) => (3, generation, slot.0 as usize),
            Source::Process(Member { generation, slot }) => (4, generation, slot.0 as usize),
            Source::TemplateLink(generation) => (5, generation, 0),
            Source::TemplateProcess(generation) => (6, generation, 0),
            Source::Compiler => (7, none, 0),
            Source::Control(index) => (8, none, index),
            Source::SuccessorLink => (9, none, 0),
            Source::SuccessorProcess => (10, none, 0),
            Source::Predecessor => (11, none, 0),
            Source::AdminListener(index) => (12, none, index),
            Source::Admin(index) => (13, none, index),
        };
        let generation = generation.0 as usize & ((1 << GENERATION_BITS) - 1);
        Token(((index << GENERATION_BITS | generation) << KIND_BITS) | kind)
    }

    pub fn of(token: Token) -> Option<Source> {
        let kind = token.0 & ((1 << KIND_BITS) - 1);
        let rest = token.0 >> KIND_BITS;
        let generation = GenerationId((rest & ((1 << GENERATION_BITS) - 1)) as u32);
        let index = rest >> GENERATION_BITS;
        let member = Member { generation, slot: SlotId(index as u32) };
        Some(match kind {
            0 => Source::Signals,
            1 => Source::Listener(index),
            2 => Source::Client(index),
            3 => Source::Link(member),
            4 => Source::Process(member),
            5 => Source::TemplateLink(generation),
            6 => Source::TemplateProcess(generation),
            7 => Source::Compiler,
            8 => Source::Control(index),
            9 => Source::SuccessorLink,
            10 => Source::SuccessorProcess,
            11 => Source::Predecessor,
            12 => Source::AdminListener(index),
            13 => Source::Admin(index),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_found_again_by_its_token() {
        let generation = GenerationId((1 << GENERATION_BITS) - 1);
        let member = Member { generation, slot: SlotId(1023) };
        for source in [
            Source::Signals,
            Source::Listener(255),
            Source::Client(999_999),
            Source::Link(member),
            Source::Process(member),
            Source::TemplateLink(generation),
            Source::TemplateProcess(GenerationId(1)),
            Source::Compiler,
            Source::Control(15),
            Source::SuccessorLink,
            Source::SuccessorProcess,
            Source::Predecessor,
            Source::AdminListener(3),
            Source::Admin(15),
        ] {
            assert_eq!(Source::of(source.token()), Some(source));
        }
        assert_eq!(Source::of(Token(15)), None);
    }
}
