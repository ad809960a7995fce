# COCO 2017 as mmdet reads it, from DDQJOBS_COCO if that is set, else from data/coco.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

data_root = '{{$DDQJOBS_COCO:data/coco/}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator
