# DDQ DETR-4scale as mmdet's own configuration has it, with a mask of choice: model.distinct_mask, one of
# rows-and-columns (mmdet's), exact, rows, columns. COCO as in coco.py.
_base_ = 'mmdet::ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py'
custom_imports = dict(imports=['ddqjobs.detect.models'], allow_failed_imports=False)

model = dict(type='DistinctMaskDDQDETR', distinct_mask='rows-and-columns')

data_root = '{{$DDQJOBS_COCO:data/coco/}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
