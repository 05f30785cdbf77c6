; Command lists in native memory: binding slots to arguments, and the kernels of copy and fill commands.
; launcher.py lays the memory out. A kernel is `void (ptr args, ptr values, i64 lo, i64 hi)` and runs tasks lo..hi-1.

; kernel, args, values, tasks; tasks of a chunk, first chunk, how many are of that size, tasks of those that follow
%Record = type { ptr, ptr, ptr, i64, i64, i64, i64, i64 }
%Wave = type { ptr, i64, i64, i64 }                   ; records, how many, their chunks, sharing (launcher.py)
%Place = type { i64, i64 }                            ; slot, byte offset
;                0 waves, 1 how many; 2 args, 3 their places, 4 how many; 5 slot addresses;
;                6 kernel values, 7 their positions, 8 how many; 9 run-time values; 10 whether the team takes part
%List = type { ptr, i64, ptr, ptr, i64, ptr, ptr, ptr, i64, ptr, i64 }

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.umin.i64(i64, i64)

; Fill in what this replay passes: argument pointers from slot addresses, kernel values from the list's values.
define void @bind(ptr %list) {
entry:
  %args.at = getelementptr inbounds %List, ptr %list, i64 0, i32 2
  %args = load ptr, ptr %args.at
  %places.at = getelementptr inbounds %List, ptr %list, i64 0, i32 3
  %places = load ptr, ptr %places.at
  %arg.count.at = getelementptr inbounds %List, ptr %list, i64 0, i32 4
  %arg.count = load i64, ptr %arg.count.at
  %slots.at = getelementptr inbounds %List, ptr %list, i64 0, i32 5
  %slots = load ptr, ptr %slots.at
  %kernel.values.at = getelementptr inbounds %List, ptr %list, i64 0, i32 6
  %kernel.values = load ptr, ptr %kernel.values.at
  %positions.at = getelementptr inbounds %List, ptr %list, i64 0, i32 7
  %positions = load ptr, ptr %positions.at
  %value.count.at = getelementptr inbounds %List, ptr %list, i64 0, i32 8
  %value.count = load i64, ptr %value.count.at
  %values.at = getelementptr inbounds %List, ptr %list, i64 0, i32 9
  %values = load ptr, ptr %values.at
  br label %arg

arg:
  %i = phi i64 [ 0, %entry ], [ %i.next, %arg.bind ]
  %more.args = icmp ult i64 %i, %arg.count
  br i1 %more.args, label %arg.bind, label %value

arg.bind:
  %slot.at = getelementptr inbounds %Place, ptr %places, i64 %i, i32 0
  %slot = load i64, ptr %slot.at
  %offset.at = getelementptr inbounds %Place, ptr %places, i64 %i, i32 1
  %offset = load i64, ptr %offset.at
  %base.at = getelementptr inbounds ptr, ptr %slots, i64 %slot
  %base = load ptr, ptr %base.at
  %pointer = getelementptr i8, ptr %base, i64 %offset
  %to = getelementptr inbounds ptr, ptr %args, i64 %i
  store ptr %pointer, ptr %to
  %i.next = add nuw nsw i64 %i, 1
  br label %arg

value:
  %j = phi i64 [ 0, %arg ], [ %j.next, %value.bind ]
  %more.values = icmp ult i64 %j, %value.count
  br i1 %more.values, label %value.bind, label %done

value.bind:
  %position.at = getelementptr inbounds i64, ptr %positions, i64 %j
  %position = load i64, ptr %position.at
  %from = getelementptr inbounds i64, ptr %values, i64 %position
  %bits = load i64, ptr %from
  %value.to = getelementptr inbounds i64, ptr %kernel.values, i64 %j
  store i64 %bits, ptr %value.to
  %j.next = add nuw nsw i64 %j, 1
  br label %value

done:
  ret void
}

; A task moves one block; values are the bytes altogether and the bytes of a block.
define internal { i64, i64 } @span(ptr %values, i64 %lo, i64 %hi) {
  %total = load i64, ptr %values
  %block.at = getelementptr inbounds i64, ptr %values, i64 1
  %block = load i64, ptr %block.at
  %start = mul nuw nsw i64 %lo, %block
  %stop.wanted = mul nuw nsw i64 %hi, %block
  %stop = call i64 @llvm.umin.i64(i64 %stop.wanted, i64 %total)
  %count = sub nsw i64 %stop, %start
  %first = insertvalue { i64, i64 } poison, i64 %start, 0
  %both = insertvalue { i64, i64 } %first, i64 %count, 1
  ret { i64, i64 } %both
}

; args: target, source
define void @copy(ptr %args, ptr %values, i64 %lo, i64 %hi) {
  %span = call { i64, i64 } @span(ptr %values, i64 %lo, i64 %hi)
  %start = extractvalue { i64, i64 } %span, 0
  %count = extractvalue { i64, i64 } %span, 1
  %target = load ptr, ptr %args
  %source.at = getelementptr inbounds ptr, ptr %args, i64 1
  %source = load ptr, ptr %source.at
  %to = getelementptr i8, ptr %target, i64 %start
  %from = getelementptr i8, ptr %source, i64 %start
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %count, i1 false)
  ret void
}

; args: target
define void @fill(ptr %args, ptr %values, i64 %lo, i64 %hi) {
  %span = call { i64, i64 } @span(ptr %values, i64 %lo, i64 %hi)
  %start = extractvalue { i64, i64 } %span, 0
  %count = extractvalue { i64, i64 } %span, 1
  %target = load ptr, ptr %args
  %to = getelementptr i8, ptr %target, i64 %start
  call void @llvm.memset.p0.i64(ptr %to, i8 0, i64 %count, i1 false)
  ret void
}
